"""The life of a server process: listen, say so in one line, accept, end gracefully on SIGTERM or SIGINT.

    def main(argv: list[str] | None = None) -> int:
        arguments = server_parser("envelope", ...).parse_args(argv)
        acceptor = Acceptor(listen(arguments.host, arguments.port), on_connection)
        return serve_until_stopped("envelope", [acceptor], drain=finish_replies)

    if __name__ == "__main__":
        run(main)

`on_connection(sock, address)` gets a plain non-blocking `socket.socket` and runs in gevent's hub: it must not block.
A server of event-driven connections registers its watchers there (servers/connection.py); one that prefers a
greenlet for each connection wraps its handler in `in_greenlet`.
"""

import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import gevent
import gevent.event
import gevent.socket

from servers.log_lines import log

EXIT_OK = 0
EXIT_CANNOT_SERVE = 3  # shared with the supervisor: the target itself never started
BACKLOG = 4096  # a flood of connections waits here, not in the clients' SYN retries (the kernel caps it)
ACCEPTS_PER_TURN = 100  # then the connections already open get their turn
ACCEPT_PAUSE_S = 0.1  # after running out of file descriptors: an immediate retry would spin
DRAIN_S = 2.0  # replies under way at SIGTERM may take this long to leave
READ = 1  # libev's event mask
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

OnConnection = Callable[[socket.socket, Any], None]


class CannotServe(Exception):
    """The server cannot start; its text is the sentence for the user. `run` turns it into exit code 3."""


def listen(host: str, port: int, *, reuse_port: bool = False, backlog: int = BACKLOG) -> socket.socket:
    """A non-blocking listening socket on `host:port` (0 picks a port). Raises CannotServe."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise CannotServe(f"cannot listen on {host}:{port}: {host!r} is not an address of this machine") from error
    try:
        sock = bind(family, address, reuse_port=reuse_port)
        sock.listen(backlog)
    except OSError as error:
        raise CannotServe(f"cannot listen on {host}:{port}: {_why(error)}") from error
    return sock


def bind(family: int, address: Any, *, reuse_port: bool = False) -> socket.socket:
    """A non-blocking socket bound to `address`, which keeps the port but refuses connections. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def address_text(address: Any) -> str:
    """`('127.0.0.1', 9000)` as `127.0.0.1:9000`, IPv6 in brackets."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address) or "local"


class Acceptor:
    """Accepts on `sock` and hands every connection to `on_connection(sock, address)`, in the hub.

    It survives everything accept can answer: a connection reset before it was accepted, and running out of file
    descriptors (it pauses a moment, since a listening socket with a full backlog is always readable).
    """

    def __init__(self, sock: socket.socket, on_connection: OnConnection) -> None:
        self.sock = sock
        self.address = sock.getsockname()
        self.accepted = 0
        self._on_connection = on_connection
        self._watcher: Any = None
        self._pause = gevent.get_hub().loop.timer(ACCEPT_PAUSE_S)

    def start(self) -> None:
        self._watcher = gevent.get_hub().loop.io(self.sock.fileno(), READ)
        self._watcher.start(self._accept)

    def stop(self) -> None:
        """Stop accepting and close the listening socket: later connections are refused."""
        self._pause.stop()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        self.sock.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = self.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if self._watcher is None:
                    return  # stopped by what a connection brought
                if error.errno in _OUT_OF_RESOURCES:
                    log.error("accept_paused", reason=_why(error))
                    self._watcher.stop()
                    self._pause.start(self._resume)
                    return
                continue  # the peer was gone before we came to it
            self.accepted += 1
            try:
                sock.setblocking(False)
                self._on_connection(sock, address)
            except Exception as error:
                log.error("accept_failed", peer=address_text(address), reason=f"{type(error).__name__}: {error}")
                sock.close()

    def _resume(self) -> None:
        self._pause.stop()
        self._watcher.start(self._accept)


def in_greenlet(handler: Callable[[gevent.socket.socket, Any], None]) -> OnConnection:
    """Adapt a blocking `handler(gevent_socket, address)` to the acceptor: one greenlet for each connection.

    The socket is closed when the handler returns; an exception of the handler becomes one log line.
    """

    def serve_one(sock: gevent.socket.socket, address: Any) -> None:
        try:
            handler(sock, address)
        except Exception as error:
            log.warning("connection_failed", peer=address_text(address), reason=f"{type(error).__name__}: {error}")
        finally:
            sock.close()

    def on_connection(sock: socket.socket, address: Any) -> None:
        gevent.spawn(serve_one, gevent.socket.socket(sock.family, sock.type, sock.proto, sock.detach()), address)

    return on_connection


def serve_until_stopped(
    name: str,
    acceptors: Sequence[Acceptor],
    *,
    drain: Callable[[], None] | None = None,
    drain_s: float = DRAIN_S,
    announce: Callable[[str], None] | None = None,
) -> int:
    """Accept on all `acceptors`, print `NAME listening on HOST:PORT` (of the first), serve until SIGTERM or SIGINT.

    Then stop accepting, give `drain()` (it may block on gevent) at most `drain_s` seconds, and return exit code 0.
    The same signal again ends the drain. `announce` replaces the printing of the line.
    """
    stopped = gevent.event.Event()
    signals: list[str] = []
    draining: list[gevent.Greenlet] = []

    def on_signal(number: int) -> None:
        signals.append(signal.Signals(number).name)
        stopped.set()
        # A terminal's Ctrl-C reaches the whole process group, and then whoever started us says SIGTERM: that is
        # one wish in two signals. The same one twice is impatience.
        if len(signals) > len(set(signals)):
            for greenlet in draining:
                greenlet.kill(block=False)

    watchers = [gevent.signal_handler(number, on_signal, number) for number in STOP_SIGNALS]
    for acceptor in acceptors:
        acceptor.start()
    where = address_text(acceptors[0].address)
    log.info("listening", name=name, address=where, pid=os.getpid())
    (announce or print_line)(f"{name} listening on {where}")
    stopped.wait()
    log.info("stopping", signal=signals[0])
    for acceptor in acceptors:
        acceptor.stop()
    if drain is not None:
        draining.append(gevent.spawn(drain))
        gevent.joinall(draining, timeout=drain_s)
        if not draining[0].ready():
            log.warning("drain_ended_early", after_s=drain_s)
            draining[0].kill(block=False)
    for watcher in watchers:
        watcher.cancel()
    log.info("stopped", name=name)
    return EXIT_OK


def print_line(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        pass  # nobody reads our stdout; that is no reason not to serve


def raise_descriptor_limit() -> None:
    """One connection is one file descriptor: take all that the system allows this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            log.warning("descriptor_limit", soft=soft, hard=hard, reason="the system refused to raise it")


def run(main: Callable[[], int]) -> NoReturn:
    """Run a server's `main` as this process: exit codes, and one sentence for what a user can mend."""
    try:
        raise_descriptor_limit()
        code = main()
    except CannotServe as error:
        print(error, file=sys.stderr, flush=True)
        code = EXIT_CANNOT_SERVE
    except KeyboardInterrupt:
        code = EXIT_OK  # Ctrl-C before the signal handlers stood
    log.flush()
    sys.exit(code)


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is already in use; stop the other program or choose another (0 picks a free one)"
    if error.errno == errno.EACCES:
        return "this user may not use that port; choose one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return "that is not an address of this machine; use 127.0.0.1, or 0.0.0.0 for all"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "out of file descriptors (raise `ulimit -n`)"
    return error.strerror or str(error)
