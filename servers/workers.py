"""`--workers N`: several processes on one port, each with its own listening socket (SO_REUSEPORT).

The kernel spreads new connections over the workers by hashing their addresses. The parent serves no clients: it prints
the startup line when all workers accept, passes SIGTERM on, and ends the rest when one dies. With `--metrics-port P` it
serves the sums of all workers there (`servers.worker_metrics`); worker i has its own counts at P + 1 + i. Workers watch
a pipe that only the parent holds open, so that they end with it even when it is killed.
"""

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import gevent

from servers.log_lines import log
from servers.serving import DRAIN_S, EXIT_OK, READ, STOP_SIGNALS, CannotServe, address_text, bind, listen, print_line
from servers.worker_metrics import WorkersDoor

EXIT_WORKER_DIED = 1
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = DRAIN_S + 3.0  # then a worker is killed
POLL_S = 0.05


class Worker:
    """What a worker's server knows of its place: its number, and how to say that it accepts."""

    def __init__(self, number: int, ready_write: int) -> None:
        self.number = number
        #: Where its own metrics are, if it serves any; set before `announce`.
        self.metrics_address: tuple[str, int] | None = None
        self._ready_write = ready_write

    def announce(self, line: str) -> None:
        """In place of the startup line, which is the parent's."""
        os.write(self._ready_write, json.dumps(self.metrics_address).encode() + b"\n")  # short: written in one piece
        os.close(self._ready_write)


# serve(listening socket, worker) -> exit code
Serve = Callable[[socket.socket, Worker], int]


def serve_in_workers(
    name: str, host: str, port: int, workers: int, serve: Serve, *, metrics_port: int | None = None
) -> int:
    """Run `serve` in `workers` forked processes on the same port; return the exit code of the whole.

    Must be called before gevent's hub exists: a hub does not survive a fork well. Raises CannotServe.
    """
    # Another server with SO_REUSEPORT would let us in and share its clients with us: ask without the option first.
    probe = listen(host, port, backlog=1)
    address, probe_family = probe.getsockname(), probe.family
    probe.close()
    # Bound but not listening: keeps the port ours while the workers start, and gets no connections.
    listen_on = (host, address[1])
    keeper = bind(probe_family, address, reuse_port=True)
    ready_read, ready_write = os.pipe()
    alive_read, alive_write = os.pipe()
    pids: list[int] = []
    stopping: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda received, _frame: stopping.append(received))
    for worker in range(workers):
        pid = os.fork()
        if pid == 0:
            os.close(ready_read)
            os.close(alive_write)
            os._exit(_work(listen_on, worker, serve, ready_write, alive_read))
        pids.append(pid)
    os.close(ready_write)
    os.close(alive_read)
    code = EXIT_OK
    try:
        ready = _await_workers(ready_read, workers, stopping)
        if len(ready) == workers:
            if metrics_port is not None:
                WorkersDoor(host, metrics_port, [door for door in ready if door is not None])
            where = address_text(address)
            log.info("listening", name=name, address=where, workers=workers, pid=os.getpid())
            print_line(f"{name} listening on {where}")
        elif not stopping:
            raise CannotServe(f"cannot listen on {host}:{port}: a worker did not start; its log says why")
        while not stopping:
            died = _reap(pids)
            if died:
                log.error("worker_died", pid=died[0], status=died[1])
                code = EXIT_WORKER_DIED
                break
            time.sleep(POLL_S)
    finally:
        _stop_workers(pids)
        keeper.close()
        os.close(alive_write)
        os.close(ready_read)
    return code


def _work(host_port: tuple[str, int], worker: int, serve: Serve, ready_write: int, alive_read: int) -> int:
    """The life of one worker, from fork to exit code. Must not raise: the caller's stack is the parent's."""
    try:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        watcher = gevent.get_hub().loop.io(alive_read, READ)

        def parent_gone() -> None:
            watcher.stop()
            os.kill(os.getpid(), signal.SIGTERM)

        watcher.start(parent_gone)
        code = serve(listen(*host_port, reuse_port=True), Worker(worker, ready_write))
    except Exception as error:
        log.error("worker_failed", worker=worker, reason=str(error))
        code = EXIT_WORKER_DIED
    log.flush()
    return code


def _await_workers(ready_read: int, workers: int, stopping: list[int]) -> list[tuple[str, int] | None]:
    """Where the metrics of each worker are that says it is ready; fewer than `workers` when one does not."""
    end_s = time.monotonic() + START_DEADLINE_S
    said = b""
    while said.count(b"\n") < workers and not stopping and time.monotonic() < end_s:
        if select.select([ready_read], [], [], POLL_S)[0]:
            more = os.read(ready_read, 4096)
            if not more:
                break  # all have closed their end, and not all have said that they are ready
            said += more
    doors = [json.loads(line) for line in said.splitlines()]
    return [(door[0], door[1]) if door else None for door in doors]


def _reap(pids: list[int]) -> tuple[int, int] | None:
    """(pid, wait status) of a worker that has ended; it is taken off the list."""
    for pid in pids:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            pids.remove(pid)
            return pid, status
    return None


def _stop_workers(pids: list[int]) -> None:
    _signal(pids, signal.SIGTERM)
    end_s = time.monotonic() + STOP_DEADLINE_S
    while pids and time.monotonic() < end_s:
        if _reap(pids) is None:
            time.sleep(POLL_S / 5)
    _signal(pids, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def _signal(pids: list[int], number: Any) -> None:
    for pid in pids:
        os.kill(pid, number)  # not reaped yet, so the number is still theirs
