"""The envelope echo server (seed 000): every ECHO comes back as it went, in the codec it came in.

    python -m servers.envelope --port 9000

An echo's reply is, byte for byte, its request. So the common case is not decoded and encoded: each header in what
one `recv` brought is checked (version, type, both lengths) and the whole stretch goes back with one `send`. A frame
that is anything else (msgpack, another type or version, malformed, unfinished) takes the careful path through
`protocols.envelope`, which is the authority on what is well-formed.

    ECHO                 the same envelope back
    LOG                  one log line; no reply
    ERROR                counted; no reply (an error is never answered with an error)
    any other type       ERROR "unsupported message type", the connection stays
    any other version    ERROR "unsupported protocol version", close
    malformed            log, close
    beyond --max-clients ERROR "server at capacity" (request_id 0), close
    too much under way   ERROR "server busy" (see --service-ms, --max-in-flight), the connection stays
"""

import argparse
import socket
import struct
import time
from collections import Counter
from functools import partial
from typing import Any

import gevent
from prometheus_client import CollectorRegistry

from protocols.envelope import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    SERVER_AT_CAPACITY,
    SERVER_BUSY,
    UNSUPPORTED_VERSION,
    VERSION,
    Codec,
    Envelope,
    MsgType,
    codec_of,
    decode_envelope,
    encode_envelope,
)
from protocols.errors import RemoteProtocolError
from protocols.frames import LENGTH_BYTES, MAX_FRAME_BYTES, encode_frame, frame_too_large
from servers.arguments import (
    MAX_HELD_BYTES,
    add_connection_limits,
    add_metrics_port,
    count,
    count_or_none,
    milliseconds,
    server_parser,
    size_bytes,
)
from servers.bugs.planting import add_bug_option, planted
from servers.connection import OPEN, RECEIVED, RECEIVED_VIEW, Connection
from servers.connection_group import ConnectionGroup, Limits
from servers.log_lines import log
from servers.metrics import ConnectionCollector, CounterSource, serve_metrics
from servers.serving import Acceptor, listen, run, serve_until_stopped
from servers.workers import Worker, serve_in_workers

DEFAULT_PORT = 9000
MAX_CLIENTS = 100  # seed 000
MAX_IN_FLIGHT = 10_000  # requests in their service time; more are told that the server is busy
MAX_WORKERS = 64
UNSUPPORTED_TYPE = b"unsupported message type"
UNSUPPORTED_VERSION_REASON = UNSUPPORTED_VERSION.decode()
MAX_LOGGED_CHARACTERS = 200  # of the text in a LOG message

_ECHO = int(MsgType.ECHO)
_LOG = int(MsgType.LOG)
_ERROR = int(MsgType.ERROR)
_FRAMED_HEADER_BYTES = LENGTH_BYTES + HEADER_BYTES
_unpack_framed = struct.Struct(">IBBQQI").unpack_from
_unpack_length = struct.Struct(">I").unpack_from


class EnvelopeServer:
    """What the connections share: limits, counters, requests under way."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.max_frame_bytes: int = arguments.max_frame_bytes
        self.service_s: float = arguments.service_ms / 1000
        self.max_in_flight: int = arguments.max_in_flight
        self.in_flight = 0
        self.requests = 0  # complete envelopes of any kind
        self.echoes = 0
        self.log_messages = 0
        self.error_messages = 0
        self.errors: Counter[str] = Counter()  # ERROR replies by text
        kind = EnvelopeConnection if not self.service_s else SlowEnvelopeConnection
        if arguments.bug is not None:
            kind = _connection_with(arguments.bug)
        self.group = ConnectionGroup(
            Limits(arguments.max_clients, arguments.idle_timeout, arguments.write_timeout, arguments.max_held_bytes),
            connect=partial(kind, self),
            refusal=error_reply(0, SERVER_AT_CAPACITY, "binary"),
        )

    def counters(self) -> dict[str, tuple[str, float]]:
        return {
            "envelope_requests": ("Complete envelopes received.", self.requests),
            "envelope_echoes": ("ECHO envelopes answered.", self.echoes),
            "envelope_log_messages": ("LOG envelopes received.", self.log_messages),
            "envelope_error_messages": ("ERROR envelopes received.", self.error_messages),
            "envelope_busy": ("Requests refused with `server busy`.", self.errors["server busy"]),
            "envelope_unsupported": (
                "Requests refused for their version or type.",
                self.errors["unsupported protocol version"] + self.errors["unsupported message type"],
            ),
        }

    def error(self, request_id: int, text: bytes, codec: Codec) -> bytes:
        self.errors[text.decode()] += 1
        return error_reply(request_id, text, codec)


class EnvelopeConnection(Connection):
    """One client of the echo. The reply to what one `recv` brought leaves in one `send`."""

    __slots__ = ("_gathered", "_partial", "_wanted_bytes", "server")

    def __init__(self, server: EnvelopeServer, group: ConnectionGroup, sock: socket.socket, address: Any) -> None:
        self.server = server
        self._partial = bytearray()  # an unfinished frame: less than max_frame_bytes + 4
        self._wanted_bytes = 0  # how long it must be before there is something to parse
        self._gathered: bytearray | None = None  # replies, while more of the same `recv` is being handled
        super().__init__(group, sock, address)

    def inside_message(self) -> bool:
        return bool(self._partial)

    def received(self, count: int) -> None:
        if self._partial:
            self._partial += RECEIVED_VIEW[:count]
            if len(self._partial) < self._wanted_bytes:
                return
            buffer, self._partial = self._partial, bytearray()
            view = memoryview(buffer)
            count = len(buffer)
        else:
            buffer, view = RECEIVED, RECEIVED_VIEW
        start = echoes = 0
        limit = self.server.max_frame_bytes
        while count - start >= _FRAMED_HEADER_BYTES:
            length, version, msg_type, _, _, payload_bytes = _unpack_framed(buffer, start)
            if version != VERSION or msg_type != _ECHO or length != HEADER_BYTES + payload_bytes or length > limit:
                break
            end = start + LENGTH_BYTES + length
            if end > count:
                break
            start = end
            echoes += 1
        if start == count:
            self._echo(view[:start], echoes)
            return
        self._gathered = bytearray()
        if echoes:
            self._echo(view[:start], echoes)
        self._received_carefully(view, start, count)
        self._send_gathered()

    def send(self, data: bytes | bytearray | memoryview) -> None:
        if self._gathered is None:
            super().send(data)
        else:
            self._gathered += data

    def finish(self, reason: str, detail: str = "") -> None:
        self._send_gathered()
        super().finish(reason, detail)

    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered:
            super().send(gathered)

    def _echo(self, frames: memoryview, echoes: int) -> None:
        """Answer `echoes` whole ECHO frames that stand in a row."""
        server = self.server
        if self.group.held_bytes > self.group.limits.max_held_bytes:
            self._refuse_busy(frames)
            return
        self.messages += echoes
        server.requests += echoes
        server.echoes += echoes
        self.last_message_s = time.monotonic()
        self.send(frames)

    def _refuse_busy(self, frames: memoryview) -> None:
        """Answer each of these whole, well-formed frames with `server busy`."""
        replies = bytearray()
        start = 0
        while start < len(frames):
            end = start + LENGTH_BYTES + _unpack_length(frames, start)[0]
            body = bytes(frames[start + LENGTH_BYTES : end])
            replies += self.server.error(decode_envelope(body).request_id, SERVER_BUSY, codec_of(body))
            self._count_message()
            start = end
        self.send(replies)

    def _received_carefully(self, view: memoryview, start: int, count: int) -> None:
        """Frame by frame: anything but a run of plain binary ECHOs, and the unfinished frame at the end."""
        limit = self.server.max_frame_bytes
        while self.state == OPEN:
            wanted_bytes = LENGTH_BYTES
            if count - start >= LENGTH_BYTES:
                (length,) = _unpack_length(view, start)
                if length > limit:
                    self._malformed(frame_too_large(length, limit))
                    return
                wanted_bytes += length
            end = start + wanted_bytes
            if end > count:
                self._partial = bytearray(view[start:count])
                self._wanted_bytes = wanted_bytes
                return
            try:
                envelope = decode_envelope(bytes(view[start + LENGTH_BYTES : end]))
            except RemoteProtocolError as error:
                self._malformed(error)
                return
            self._handle(envelope, view[start:end])
            start = end
            if start == count:
                return

    def _handle(self, envelope: Envelope, frame: memoryview) -> None:
        codec = codec_of(bytes(frame[LENGTH_BYTES : LENGTH_BYTES + 1]))
        if envelope.version != VERSION:
            self._count_message()
            self.send(self.server.error(envelope.request_id, UNSUPPORTED_VERSION, codec))
            self.finish(UNSUPPORTED_VERSION_REASON)
        elif envelope.msg_type == _ECHO:
            self._echo(frame, 1)
        elif envelope.msg_type == _LOG:
            self._count_message()
            self.server.log_messages += 1
            text = envelope.payload[:MAX_LOGGED_CHARACTERS].decode("utf-8", "replace")
            log.info("client_log", peer=self.peer, request_id=envelope.request_id, text=text)
        elif envelope.msg_type == _ERROR:
            self._count_message()
            self.server.error_messages += 1
            log.info("client_error", peer=self.peer, request_id=envelope.request_id)
        else:
            self._count_message()
            self.send(self.server.error(envelope.request_id, UNSUPPORTED_TYPE, codec))

    def _count_message(self) -> None:
        self.messages += 1
        self.server.requests += 1
        self.last_message_s = time.monotonic()

    def _malformed(self, error: RemoteProtocolError) -> None:
        self.finish(error.reason, error.detail)


class SlowEnvelopeConnection(EnvelopeConnection):
    """With `--service-ms`: replies leave that much later, and only so many requests are under way at a time."""

    __slots__ = ("_in_service",)

    def __init__(self, *arguments: Any) -> None:
        self._in_service: dict[Any, tuple[bytes, int]] = {}  # timer -> (replies, how many)
        super().__init__(*arguments)

    def _echo(self, frames: memoryview, echoes: int) -> None:
        server = self.server
        room = server.max_in_flight - server.in_flight
        accepted = 0
        taken = 0
        while accepted < min(echoes, room) and self.group.held_bytes <= self.group.limits.max_held_bytes:
            size = LENGTH_BYTES + _unpack_length(frames, taken)[0]
            taken += size
            self.group.held_bytes += size
            accepted += 1
        if accepted:
            self.messages += accepted
            server.requests += accepted
            server.in_flight += accepted
            self.last_message_s = time.monotonic()
            timer = gevent.get_hub().loop.timer(server.service_s)
            self._in_service[timer] = (bytes(frames[:taken]), accepted)
            timer.start(self._served, timer)
        if accepted < echoes:
            self._refuse_busy(frames[taken:])

    def _served(self, timer: Any) -> None:
        replies, number = self._release(timer)
        self.server.echoes += number
        self.last_message_s = time.monotonic()
        self.send(replies)
        self.linger_when_done()

    def _release(self, timer: Any) -> tuple[bytes, int]:
        timer.stop()
        timer.close()
        replies, number = self._in_service.pop(timer)
        self.server.in_flight -= number
        self.group.held_bytes -= len(replies)
        return replies, number

    def under_way(self) -> bool:
        return bool(self._in_service)

    def ended(self) -> None:
        for timer in list(self._in_service):
            self._release(timer)


def _connection_with(bug: str) -> type[EnvelopeConnection]:
    from servers.bugs.envelope import BUGS

    return planted(bug, BUGS, "envelope")


def error_reply(request_id: int, text: bytes, codec: Codec) -> bytes:
    """A framed ERROR with that text."""
    return encode_frame(encode_envelope(Envelope(VERSION, _ERROR, request_id, 0, text), codec))


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = server_parser(
        "envelope",
        "The envelope echo server: framed binary or msgpack envelopes, each ECHO answered with itself.",
        "python -m servers.envelope --port 9000 --max-clients 1000 --metrics-port 9401",
        DEFAULT_PORT,
    )
    limits = add_connection_limits(parser, max_clients=MAX_CLIENTS)
    limits.add_argument(
        "--max-frame-bytes",
        type=size_bytes,
        default=MAX_FRAME_BYTES,
        metavar="N",
        help=f"largest frame accepted (a payload is never larger than {MAX_PAYLOAD_BYTES})",
    )
    limits.add_argument(
        "--max-held-bytes",
        type=size_bytes,
        default=MAX_HELD_BYTES,
        metavar="N",
        help="replies that slow readers have not taken, in all; beyond that requests get ERROR `server busy`",
    )
    limits.add_argument(
        "--service-ms", type=milliseconds, default=0.0, metavar="MS", help="answer each request this much later"
    )
    limits.add_argument(
        "--max-in-flight",
        type=count_or_none,
        default=MAX_IN_FLIGHT,
        metavar="N",
        help="with --service-ms: requests under way at a time; more get ERROR `server busy`",
    )
    parser.add_argument(
        "--workers", type=count, default=1, metavar="N", help="processes that share the port (limits apply to each)"
    )
    add_metrics_port(parser)
    add_bug_option(parser)
    arguments = parser.parse_args(argv)
    if arguments.workers > MAX_WORKERS:
        parser.error(f"argument --workers: at most {MAX_WORKERS}")
    return arguments


def serve(arguments: argparse.Namespace, sock: socket.socket, worker: Worker | None = None) -> int:
    server = EnvelopeServer(arguments)
    registry = CollectorRegistry()
    registry.register(ConnectionCollector("envelope", server.group))
    registry.register(CounterSource(server.counters))
    serve_metrics(arguments, registry, server.group, worker)
    code = serve_until_stopped(
        "envelope",
        [Acceptor(sock, server.group.accept)],
        drain=server.group.drain,
        announce=worker.announce if worker else None,
    )
    server.group.abort_all()
    return code


def main() -> int:
    arguments = parse_arguments()
    log.set_level(arguments.log_level)
    if arguments.workers > 1:
        return serve_in_workers(
            "envelope",
            arguments.host,
            arguments.port,
            arguments.workers,
            partial(serve, arguments),
            metrics_port=arguments.metrics_port,
        )
    return serve(arguments, listen(arguments.host, arguments.port))


if __name__ == "__main__":
    run(main)
