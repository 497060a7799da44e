"""How the proxy's owner speaks with it: a Unix socket (mode 0600), one JSON line there, one JSON line back.

{"command": "open", "links": [{"name", "listen": [host, port], "upstream": [host, port], "framed"}]}
{"command": "set", "links": {name: ["up:latency=50ms", ...]}}      replaces their toxics, all in one turn
{"command": "reset", "links": [name, ...]}                         resets the connections that are open
{"command": "counters"}
"""

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from swarmproof.control import MAX_LINE_BYTES, bindable, may_speak
from swarmproof.faults.proxy.link import Link
from swarmproof.faults.proxy.loop import READ, Loop
from swarmproof.faults.proxy.toxics import merge_toxics

MAX_LINKS = 1000
MAX_CALLERS = 16


class ControlPort:
    """Owns the links that it was asked to open. Errors: OSError when the socket cannot be made."""

    def __init__(self, loop: Loop, path: Path) -> None:
        self.links: dict[str, Link] = {}
        self._loop = loop
        self._path = path
        self._buffers: dict[socket.socket, bytearray] = {}
        self._directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.fchmod(self._listener.fileno(), 0o600)  # Linux creates the file with the socket's own mode
        self._listener.bind(bindable(path, self._directory))
        path.chmod(0o600)
        self._listener.listen(MAX_CALLERS)
        self._listener.setblocking(False)
        loop.watch(self._listener, READ, self._accept)

    def close(self) -> None:
        for link in self.links.values():
            link.close()
        for caller in list(self._buffers):
            self._hang_up(caller)
        self._loop.forget(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        os.close(self._directory)

    def answer(self, line: bytes) -> dict[str, Any]:
        """The reply to one line; what is wrong with it as {"error": sentence}."""
        try:
            request = json.loads(line)
            command, links = request.get("command"), request.get("links")
            if command == "open":
                return self._open(links)
            if command == "set":
                toxics = {self._link(name): merge_toxics(texts) for name, texts in links.items()}
                for link, chosen in toxics.items():
                    link.set_toxics(chosen)
                return {"set": len(toxics)}
            if command == "reset":
                return {"reset": sum(self._link(name).reset_all() for name in links)}
            if command == "counters":
                return {"counters": {name: link.counters() for name, link in self.links.items()}}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            return {"error": str(error) or type(error).__name__}
        return {"error": f"there is no command {command!r}"}

    def _open(self, wanted: list[dict[str, Any]]) -> dict[str, Any]:
        if len(self.links) + len(wanted) > MAX_LINKS:
            return {"error": f"more than {MAX_LINKS} links"}
        opened: dict[str, list[Any]] = {}
        for entry in wanted:
            name, listen, upstream = str(entry["name"]), entry["listen"], entry["upstream"]
            if name in self.links:  # a second attempt with other ports
                self.links.pop(name).close()
            try:
                link = Link(
                    self._loop,
                    name,
                    (str(listen[0]), int(listen[1])),
                    (str(upstream[0]), int(upstream[1])),
                    framed=bool(entry.get("framed")),
                )
            except OSError as error:
                return {"error": f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror or error}"}
            self.links[name] = link
            opened[name] = list(link.address)
        return {"opened": opened}

    def _link(self, name: str) -> Link:
        if name not in self.links:
            raise ValueError(f"there is no link {name!r}")
        return self.links[name]

    # The socket.

    def _accept(self, mask: int) -> None:
        with contextlib.suppress(OSError):
            caller, _ = self._listener.accept()
            if len(self._buffers) >= MAX_CALLERS or not may_speak(caller):
                caller.close()
                return
            caller.setblocking(False)
            self._buffers[caller] = bytearray()
            self._loop.watch(caller, READ, lambda _: self._read(caller))

    def _read(self, caller: socket.socket) -> None:
        buffer = self._buffers[caller]
        try:
            data = caller.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        buffer += data
        if not data or len(buffer) > MAX_LINE_BYTES:
            self._hang_up(caller)
            return
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            reply = json.dumps(self.answer(line)).encode() + b"\n"
            try:
                caller.setblocking(True)  # the owner waits for this line and nothing else
                caller.settimeout(1.0)
                caller.sendall(reply)
                caller.setblocking(False)
            except OSError:
                self._hang_up(caller)
                return

    def _hang_up(self, caller: socket.socket) -> None:
        self._loop.forget(caller)
        del self._buffers[caller]
        caller.close()
