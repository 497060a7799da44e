"""The device: its listening socket that can be taken away, its connections, and the packets that it keeps."""

import socket
import time
from collections import deque
from typing import Any, NamedTuple

import gevent

from protocols.errors import RemoteProtocolError
from protocols.f00d import MAX_PAYLOAD_BYTES, RAW_ACK, Packet, PacketDecoder, encode_ack
from servers.connection import CLOSED, IDLE_TIMEOUT, RECEIVED_VIEW, Connection
from servers.connection_group import ConnectionGroup, Limits
from servers.f00d.device_metrics import CONNECTION_FAILED, TIMEOUT, UNKNOWN_DEVICE, DeviceCounts, DeviceMetrics
from servers.f00d.script import DEFAULT_DELAY_S, Mode, Script, Step
from servers.log_lines import log
from servers.serving import BACKLOG, Acceptor, OnConnection, address_text, bind, listen

# What can be looked at afterwards (GET /packets); older ones are forgotten.
MAX_KEPT_PACKETS = 10_000
# Acknowledgements waiting for their delay, in all; a packet beyond that goes unanswered.
MAX_DELAYED = 100_000
# After a REJECT, when another program took the port in the meantime.
LISTEN_RETRY_S = 0.2

# Why a connection ended, beside the reasons of servers.connection.
MODE_DISCONNECT = "mode DISCONNECT"
MODE_REJECT = "mode REJECT"


class KeptPacket(NamedTuple):
    """A packet as it was received. `received_at`: seconds since the epoch; `mode`: what was done with it."""

    received_at: float
    peer: str
    mode: str
    packet: Packet


class Device:
    """What the connections share, and what the admin port shows and switches."""

    def __init__(
        self,
        limits: Limits,
        script: Script,
        *,
        framed_ack: bool = False,
        delay_s: float = DEFAULT_DELAY_S,
        keep_packets: int = MAX_KEPT_PACKETS,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        metrics: DeviceMetrics | None = None,
        connection_class: "type[DeviceConnection] | None" = None,
    ) -> None:
        self.metrics = metrics if metrics is not None else DeviceMetrics()
        self._connection_class = connection_class or DeviceConnection
        self.framed_ack = framed_ack
        self.delay_s = delay_s
        self.max_payload_bytes = max_payload_bytes
        self.script = script
        self.packets: deque[KeptPacket] = deque(maxlen=keep_packets)
        self.received = 0
        self.disconnected = 0
        self.delayed = 0
        self.group = ConnectionGroup(limits, self._connect)
        self.acceptor: RefusableAcceptor | None = None
        self._reject_timer: Any = None

    def listen(self, host: str, port: int) -> "RefusableAcceptor":
        """Raises CannotServe."""
        self.acceptor = RefusableAcceptor(listen(host, port), self.group.accept)
        self._enter_step()
        return self.acceptor

    def switch(self, script: Script, delay_s: float | None = None) -> None:
        """Behave by another script from now on; connections stay, unless it begins with REJECT."""
        self.script = script
        if delay_s is not None:
            self.delay_s = delay_s
        log.info("mode_switched", script=",".join(script.remaining()))
        self._enter_step()

    def take_step(self) -> Step:
        step = self.script.take()
        if self.script.current is not step:
            self._enter_step()
        return step

    def _connect(self, group: ConnectionGroup, sock: socket.socket, address: Any) -> None:
        if self.script.current.mode is Mode.DISCONNECT:
            self.disconnected += 1
            sock.close()
            log.debug("disconnected", peer=address_text(address))
            self.take_step()
            return
        self._connection_class(self, group, sock, address)

    def _enter_step(self) -> None:
        """Listen or not, as the step at hand wants it."""
        if self._reject_timer is not None:
            self._reject_timer.stop()
            self._reject_timer.close()
            self._reject_timer = None
        step = self.script.current
        if self.acceptor is None:
            return
        if step.mode is not Mode.REJECT:
            self.acceptor.resume()
            return
        self.acceptor.refuse()
        # Not within the callback of a connection that is being read: it closes connections.
        gevent.get_hub().loop.run_callback(self._close_connections)
        if step.seconds is not None and not self.script.last:
            self._reject_timer = gevent.get_hub().loop.timer(step.seconds)
            self._reject_timer.start(self._reject_over)

    def _reject_over(self) -> None:
        self.script.advance()
        self._enter_step()

    def _close_connections(self) -> None:
        if self.script.current.mode is Mode.REJECT:
            for connection in list(self.group.connections):
                connection.abort(MODE_REJECT)


class RefusableAcceptor(Acceptor):
    """An acceptor that can let go of its port and take it again.

    While it refuses, a bound socket that does not listen keeps the port: the kernel refuses connections, and no
    other program can move in.
    """

    def __init__(self, sock: socket.socket, on_connection: OnConnection) -> None:
        super().__init__(sock, on_connection)
        self.refusing = False
        self._family = sock.family
        self._started = False
        self._retry = gevent.get_hub().loop.timer(LISTEN_RETRY_S, LISTEN_RETRY_S)

    def refuse(self) -> None:
        if self.refusing:
            return
        self.refusing = True
        super().stop()
        try:
            self.sock = bind(self._family, self.address)
            # Two sockets that may both reuse an address do not keep each other out.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError as error:
            log.error("port_not_kept", reason=str(error))

    def resume(self) -> None:
        if not self.refusing:
            return
        try:
            if self.sock.fileno() < 0:
                self.sock = bind(self._family, self.address)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.listen(BACKLOG)
        except OSError as error:
            log.error("port_not_regained", reason=str(error))
            self._retry.start(self.resume)
            return
        self._retry.stop()
        self.refusing = False
        if self._started:
            super().start()

    def start(self) -> None:
        self._started = True
        if not self.refusing:
            super().start()

    def stop(self) -> None:
        self._retry.stop()
        super().stop()


class DeviceConnection(Connection):
    """One client. What one `recv` brought is acknowledged with one `send` (and one timer, when delayed)."""

    __slots__ = ("_decoder", "_delayed", "device")

    def __init__(self, device: Device, group: ConnectionGroup, sock: socket.socket, address: Any) -> None:
        self.device = device
        self._decoder = PacketDecoder(device.max_payload_bytes)
        # timer -> (acknowledgements, whose and when received)
        self._delayed: dict[Any, tuple[bytes, list[tuple[DeviceCounts, float]]]] = {}
        super().__init__(group, sock, address)

    def inside_message(self) -> bool:
        return self._decoder.pending_bytes > 0

    def under_way(self) -> bool:
        return bool(self._delayed)

    def received(self, count: int) -> None:
        now_s = time.monotonic()
        at_once = bytearray()
        answered: list[DeviceCounts] = []
        later: dict[float, tuple[bytearray, list[tuple[DeviceCounts, float]]]] = {}
        disconnect = False
        for packet in self._decoder.receive_data(bytes(RECEIVED_VIEW[:count])):
            self.messages += 1
            self.last_message_s = now_s
            counts = self.device.metrics.of(packet.device_id)
            counts.packet()
            if self.device.script.current.mode is Mode.REJECT:
                counts.unanswered = CONNECTION_FAILED  # this connection is being closed
                break
            step = self.device.take_step()
            self._keep_packet(packet, step.mode)
            if step.mode is Mode.SUCCESS:
                at_once += self._acknowledgement(packet)
                answered.append(counts)
            elif step.mode is Mode.DELAY and self.device.delayed < MAX_DELAYED:
                self.device.delayed += 1
                delay_s = self.device.delay_s if step.seconds is None else step.seconds
                acks, whose = later.setdefault(delay_s, (bytearray(), []))
                acks += self._acknowledgement(packet)
                whose.append((counts, now_s))
            elif step.mode is Mode.DISCONNECT:
                counts.unanswered = CONNECTION_FAILED
                disconnect = True
                break
            else:
                counts.unanswered = TIMEOUT
        if at_once:
            self.send(at_once)
            self._sent([(counts, now_s) for counts in answered])
        for delay_s, (acks, whose) in later.items():
            self._delay(delay_s, bytes(acks), whose)
        if disconnect:
            self.device.disconnected += 1
            self.abort(MODE_DISCONNECT)
        elif self._decoder.error is not None:
            self._refuse(self._decoder.error)

    def idle(self, now_s: float) -> None:
        if self.inside_message():
            self.device.metrics.of(UNKNOWN_DEVICE).received_timeout += 1
        self.finish(IDLE_TIMEOUT)

    def ended(self) -> None:
        for timer in list(self._delayed):
            for counts, _ in self._take_delayed(timer)[1]:
                counts.sent_error += 1
                counts.unanswered = TIMEOUT

    def _keep_packet(self, packet: Packet, mode: Mode) -> None:
        self.device.received += 1
        self.device.packets.append(KeptPacket(time.time(), self.peer, mode, packet))

    def _acknowledgement(self, packet: Packet) -> bytes:
        return encode_ack(packet.msg_id) if self.device.framed_ack else RAW_ACK

    def _delay(self, delay_s: float, acks: bytes, whose: list[tuple[DeviceCounts, float]]) -> None:
        timer = gevent.get_hub().loop.timer(delay_s)
        self._delayed[timer] = (acks, whose)
        timer.start(self._delay_over, timer)

    def _delay_over(self, timer: Any) -> None:
        acks, whose = self._take_delayed(timer)
        self.last_message_s = time.monotonic()
        self.send(acks)
        self._sent(whose)
        self.linger_when_done()

    def _sent(self, whose: list[tuple[DeviceCounts, float]]) -> None:
        now_s = time.monotonic()
        for counts, received_s in whose:
            if self.state == CLOSED:
                counts.sent_error += 1
            else:
                counts.acknowledged(now_s - received_s)

    def _take_delayed(self, timer: Any) -> tuple[bytes, list[tuple[DeviceCounts, float]]]:
        timer.stop()
        timer.close()
        acks, whose = self._delayed.pop(timer)
        self.device.delayed -= len(whose)
        return acks, whose

    def _refuse(self, error: RemoteProtocolError) -> None:
        reason = str(error.reason)  # plain text: labels and JSON keys take no enumeration
        self.device.metrics.decode_errors[reason] += 1
        self.finish(reason, error.detail)
