"""A link: a listening port, where it leads to, what is wrong with it, and what it carried.

Without toxics the bytes of one `recv` go out in one `send`, nothing in between. With `drop` the link swallows
everything and says nothing, as a network that loses every packet; when it is healed, connections that lost bytes are
reset, since TCP never delivers a stream with a hole. With `stall` nothing is read, and what was sent meanwhile arrives
later, as after retransmissions.
"""

import errno
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from swarmproof.faults.proxy.door import Door
from swarmproof.faults.proxy.loop import READ, WRITE, Loop
from swarmproof.faults.proxy.stream import Flow, Stream, close_socket
from swarmproof.faults.proxy.toxics import SILENT_TOXICS, Toxic, hits_of

ACCEPTS_PER_TURN: Final = 64
# One link: more connections than any plan has users; beyond it new ones are reset.
MAX_CONNECTIONS: Final = 10_000


class Link:
    """Accepts until closed. `framed`: the streams are `u32 length | body` frames, and are followed from the first byte.

    Errors: OSError when the port cannot be had.
    """

    def __init__(
        self,
        loop: Loop,
        name: str,
        listen: tuple[str, int],
        upstream: tuple[str, int],
        *,
        framed: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self.loop = loop
        self.name = name
        self.upstream = upstream
        self.framed = framed
        self.rng = rng or random.Random(name)
        self.up, self.down = Flow("up"), Flow("down")
        self.connections: set[Connection] = set()
        self.accepted = self.resets = self.unreachable = 0
        self._end_after: tuple[float, bool] | None = None  # timeout, reset: seconds, and whether with RST
        self._door = Door(loop, listen, upstream, self._accept)
        self.address = self._door.address

    def set_toxics(self, toxics: Sequence[Toxic]) -> None:
        """Replace all toxics, on connections that are open too. Holes that `drop` left end their connections."""
        self._end_after = None
        for flow in (self.up, self.down):
            mine = [toxic for toxic in toxics if toxic.direction == flow.direction]
            kinds = {toxic.kind for toxic in mine if toxic.share >= 1}
            flow.mode = "swallow" if kinds & {"drop", "timeout"} else "stall" if "stall" in kinds else "carry"
            flow.silent = tuple(sorted(kinds & SILENT_TOXICS))
            flow.reset_mid_reply = any(toxic.kind == "reset" and toxic.mid_reply for toxic in mine)
            flow.toxics = tuple(
                toxic
                for toxic in mine
                if toxic.kind not in ("stall", "timeout", "reset") and not (toxic.kind == "drop" and toxic.share >= 1)
            )
            for toxic in mine:
                if toxic.kind in ("timeout", "reset") and not toxic.mid_reply:
                    self._end_after = (toxic.delay_s, toxic.kind == "reset")
        if self.up.mode != "carry":
            self._door.open()  # a link that loses or holds everything does not tell that nobody is there
        for connection in list(self.connections):
            connection.apply_toxics()
            self._end_later(connection)

    def refused(self) -> None:
        """The server refused a connection; so does the link, from now on."""
        self.unreachable += 1
        if self.up.mode == "carry":
            self._door.shut()

    def reset_all(self) -> int:
        """Reset every connection; how many there were."""
        count = len(self.connections)
        for connection in list(self.connections):
            connection.end(reset=True)
        return count

    def counters(self) -> dict[str, int]:
        """Since the link was opened, but for `connections`, which are open now."""
        return {
            "connections": len(self.connections),
            "accepted": self.accepted,
            "resets": self.resets,
            "unreachable": self.unreachable,
            "up_bytes": self.up.carried_bytes,
            "down_bytes": self.down.carried_bytes,
            "up_swallowed_bytes": self.up.swallowed_bytes,
            "down_swallowed_bytes": self.down.swallowed_bytes,
            "changed": self.up.changed + self.down.changed,
            **{
                hits_of(flow.direction, kind): count
                for flow in (self.up, self.down)
                for kind, count in (flow.hits + self._stalled(flow)).items()
            },
        }

    def _stalled(self, flow: Flow) -> Counter[str]:
        """Streams that hold something back at the moment: a stall shows in what was sent and does not arrive."""
        if flow.mode != "stall":
            return Counter()
        streams = [connection.up if flow is self.up else connection.down for connection in self.connections]
        return Counter(stall=sum(stream.holds_back() for stream in streams))

    def close(self) -> None:
        self._door.close()
        self.reset_all()

    def _accept(self, mask: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._door.listener.accept()
            except OSError:  # nothing more, gone again, or no descriptors left: the next turn tries again
                return
            self.accepted += 1
            if len(self.connections) >= MAX_CONNECTIONS:
                close_socket(sock, reset=True)
                continue
            connection = Connection(self, sock)
            self.connections.add(connection)
            connection.begin()
            if connection in self.connections:
                self._end_later(connection)

    def _end_later(self, connection: "Connection") -> None:
        if self._end_after is None:
            return
        after_s, reset = self._end_after
        if after_s <= 0:
            self._end_by_toxic(connection, reset)
            return
        asked = self._end_after

        def end() -> None:
            if self._end_after is asked:  # not healed meanwhile
                self._end_by_toxic(connection, reset)

        self.loop.call_at(time.monotonic() + after_s, end)

    def _end_by_toxic(self, connection: "Connection", reset: bool) -> None:
        if reset and connection in self.connections:
            for flow in (self.up, self.down):
                flow.hits["reset"] += 1
        connection.end(reset=reset)


class Connection:
    """A client's socket and ours to the upstream, with a stream in each direction."""

    def __init__(self, link: Link, client: socket.socket) -> None:
        self.link = link
        self.loop = link.loop
        self.client: socket.socket | None = client
        self.server: socket.socket | None = None
        self.connected = False
        self.lost_bytes = False
        self._masks = {"client": 0, "server": 0}
        self.up = Stream(self, link.up)
        self.down = Stream(self, link.down)

    def begin(self) -> None:
        assert self.client is not None
        self.client.setblocking(False)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.up.source = self.down.sink = self.client
        self.up.set_pipeline()
        self.down.set_pipeline()
        if self.link.up.mode == "swallow":
            self.lost_bytes = True  # a connection that never reached anybody
            self.link.up.hits.update(self.link.up.silent)
        else:
            self._dial()
        self.update()

    def apply_toxics(self) -> None:
        """The link's toxics have changed."""
        if self.lost_bytes and "swallow" not in (self.link.up.mode, self.link.down.mode):
            self.end(reset=True)
            return
        self.up.set_pipeline()
        self.down.set_pipeline()
        self.update()

    def end(self, *, reset: bool) -> None:
        """Close both sides. Idempotent."""
        if self not in self.link.connections:
            return
        self.link.connections.discard(self)
        self.link.resets += reset
        for side, sock in (("client", self.client), ("server", self.server)):
            self._drop_side(side, sock, reset=reset)
        self.client = self.server = None

    def broken(self, source: socket.socket | None) -> None:
        """One side is gone without a goodbye. A link that swallows does not tell the other one."""
        if "swallow" not in (self.link.up.mode, self.link.down.mode):
            self.end(reset=True)
            return
        self.lost_bytes = True
        side = "client" if source is self.client else "server"
        self._drop_side(side, source, reset=True)
        if side == "client":
            self.client = self.up.source = self.down.sink = None
        else:
            self.server = self.up.sink = self.down.source = None
            self.connected = False
            self.up.set_plain()
            self.down.set_plain()
        if self.client is None and self.server is None:
            self.end(reset=True)

    def finished(self) -> None:
        """A stream has passed on its end."""
        if self.up.done and self.down.done:
            self.end(reset=False)

    def update(self) -> None:
        """Wait for what can be done now on either socket."""
        if self not in self.link.connections:
            return
        up, down = self.up, self.down
        client_mask = (READ if up.wants_to_read() else 0) | (WRITE if down.backlog else 0)
        server_mask = (READ if down.wants_to_read() and self.connected else 0) | (
            WRITE if up.backlog or not self.connected else 0
        )
        self._set_mask("client", self.client, client_mask, self._client_ready)
        self._set_mask("server", self.server, server_mask, self._server_ready)

    def _set_mask(self, side: str, sock: socket.socket | None, mask: int, callback: Callable[[int], None]) -> None:
        before = self._masks[side]
        if sock is None or mask == before:
            return
        self._masks[side] = mask
        if not before:
            self.loop.watch(sock, mask, callback)
        elif mask:
            self.loop.change(sock, mask)
        else:
            self.loop.forget(sock)

    def _drop_side(self, side: str, sock: socket.socket | None, *, reset: bool) -> None:
        if sock is None:
            return
        if self._masks[side]:
            self._masks[side] = 0
            self.loop.forget(sock)
        close_socket(sock, reset=reset)

    def _dial(self) -> None:
        host, port = self.link.upstream
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server = self.up.sink = self.down.source = sock
        result = sock.connect_ex((host, port))
        if result == 0:
            self.connected = True
            self.up.set_plain()
            self.down.set_plain()
        elif result != errno.EINPROGRESS:
            self._unreachable()

    def _unreachable(self) -> None:
        """The one client that came before the link knew: its connection is reset. Those after it are refused."""
        self.link.refused()
        self.broken(self.server)

    def _client_ready(self, mask: int) -> None:
        if mask != WRITE:  # an end or an error is seen by reading
            self.up.pull()
        if mask != READ and self.client is not None and self.down.backlog:
            self.down.flush()

    def _server_ready(self, mask: int) -> None:
        if not self.connected:
            assert self.server is not None
            if self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._unreachable()
                return
            self.connected = True
            self.up.set_plain()
            self.down.set_plain()
            self.up.flush()
            self.update()
            return
        if mask != WRITE:
            self.down.pull()
        if mask != READ and self.server is not None and self.up.backlog:
            self.up.flush()
