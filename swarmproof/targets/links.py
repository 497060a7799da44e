"""The network between processes as a target sees it: links that it asks for, each a port in front of another.

A board belongs to a supervisor and owns one proxy process (swarmproof/faults/proxy), started through the guard like
every other child; it is told what to do over a Unix socket. Targets ask for links before they start; faults change
what the links do. Names: `n1>n2` is what n1 dials to reach n2, `clients>n1` what clients dial.
"""

import contextlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from swarmproof.control import MAX_LINE_BYTES, bindable
from swarmproof.targets.errors import TargetError, TargetNotStarted
from swarmproof.targets.guard import Guard
from swarmproof.targets.process import ChildProcess

NAME = "links"
CONTROL_NAME = "links.sock"
PEERS = "peers"
CLIENTS = "clients"
STARTED_WITHIN_S = 30.0
ANSWER_WITHIN_S = 10.0
READY_LINE = re.compile(r"^links ready$", re.MULTILINE)

Counters = Mapping[str, int]


class LinkPlan(NamedTuple):
    """A link to open. `framed`: the stream consists of `u32 length | body` frames."""

    name: str
    port: int
    upstream_port: int
    framed: bool = False


def link_name(source: str, destination: str) -> str:
    """`n1>n2`; the source of a client link is `clients`."""
    return f"{source}>{destination}"


class LinkBoard:
    """Links of one supervisor. The process starts with the first `open`. Safe from several threads."""

    def __init__(self, guard: Guard, nodes_dir: Path) -> None:
        self.names: set[str] = set()
        self.framed: set[str] = set()  # those whose streams consist of frames
        self.process = ChildProcess(
            NAME,
            [sys.executable, "-m", "swarmproof.faults.proxy", "--control", str(nodes_dir / NAME / CONTROL_NAME)],
            directory=nodes_dir / NAME,
            guard=guard,
        )
        self._path = nodes_dir / NAME / CONTROL_NAME
        self._guard = guard
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._layers: dict[int, dict[str, list[str]]] = {}
        self._socket: socket.socket | None = None

    def open(self, host: str, plans: Sequence[LinkPlan]) -> None:
        """Listen on `host` for each of `plans`; a link of the same name is replaced. Errors: TargetError."""
        links = [
            {"name": p.name, "listen": [host, p.port], "upstream": [host, p.upstream_port], "framed": p.framed}
            for p in plans
        ]
        with self._lock:
            self._start()
        try:
            self._ask({"command": "open", "links": links})
        except TargetError as error:
            raise TargetNotStarted(str(error)) from error
        self.names |= {plan.name for plan in plans}
        self.framed = self.framed - {plan.name for plan in plans} | {plan.name for plan in plans if plan.framed}

    def apply(self, owner: int, toxics: Mapping[str, Sequence[str]]) -> None:
        """Add toxics to these links, all at the same moment, until `withdraw`. Errors: TargetError."""
        with self._changing:
            self._layers[owner] = {name: list(texts) for name, texts in toxics.items()}
            self._set(toxics)

    def withdraw(self, owner: int) -> None:
        """Take away what this owner has added; what others have stays. Idempotent. Errors: TargetError."""
        with self._changing:
            layer = self._layers.pop(owner, None)
            if layer and self.process.pid is not None:
                self._set(layer)

    def _set(self, names: Iterable[str]) -> None:
        layers = self._layers.values()
        wanted = {name: [text for layer in layers for text in layer.get(name, [])] for name in names}
        self._ask({"command": "set", "links": wanted})

    def reset_connections(self, names: Sequence[str]) -> int:
        """Reset what is connected over these links now; how many connections. Errors: TargetError."""
        return int(self._ask({"command": "reset", "links": list(names)})["reset"])

    def counters(self) -> dict[str, Counters]:
        """What each link has carried so far. Errors: TargetError."""
        found: dict[str, Counters] = self._ask({"command": "counters"})["counters"]
        return found

    def stop(self) -> None:
        """End the process; its links are gone. Idempotent."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        self.process.on_death = None
        self.process.stop()
        self._guard.remove(self._path)

    def _start(self) -> None:
        if self.process.pid is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._guard.protect(self._path)
        self.process.start()
        self.process.wait_for_line(READY_LINE, STARTED_WITHIN_S)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                reply = json.loads(self._call(json.dumps(request).encode() + b"\n"))
            except (OSError, ValueError) as error:
                with contextlib.suppress(OSError, AttributeError):
                    self._socket.close()  # type: ignore[union-attr]
                self._socket = None
                raise TargetError(f"the link proxy does not answer: {error}; see {self.process.log_path}") from error
        if "error" in reply:
            raise TargetError(str(reply["error"]))
        answer: dict[str, Any] = reply
        return answer

    def _call(self, line: bytes) -> bytes:
        if self._socket is None:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.settimeout(ANSWER_WITHIN_S)
                self._socket = connection
                connection.connect(bindable(self._path, directory))
            finally:
                os.close(directory)
        self._socket.sendall(line)
        reply = bytearray()
        while not reply.endswith(b"\n") and len(reply) < MAX_LINE_BYTES:
            part = self._socket.recv(64 * 1024)
            if not part:
                raise ConnectionError("it closed the control connection")
            reply += part
        return bytes(reply)
