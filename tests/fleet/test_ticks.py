"""What a process does for itself once a second leaves the event loop its turn in between."""

import time
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket

from records.recorder import recorder
from swarmproof.fleet.extension import AFTER_THE_SECOND_S, RunExtension

DEADLINE_S = 20


def test_a_process_without_workers_reckons_when_a_second_is_over() -> None:
    """And not in the middle of one, of which the live page would show a part as the whole."""
    at_s: list[float] = []
    anything: Any = SimpleNamespace(is_worker=False, _tick=lambda: at_s.append(time.monotonic()))
    ticker = gevent.spawn(RunExtension._tick_forever, anything)
    try:
        with gevent.Timeout(DEADLINE_S):
            while len(at_s) < 3:
                gevent.sleep(0.01)
    finally:
        ticker.kill()
    assert all(at % 1 >= AFTER_THE_SECOND_S for at in at_s)
    assert min(at % 1 for at in at_s) < 0.5, "soon after it"


def test_replies_are_read_between_the_parts_of_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    read: list[bytes] = []
    watcher = gevent.get_hub().loop.io(theirs.fileno(), 1)
    watcher.start(lambda: read.append(theirs.recv(1)))
    read_before: dict[str, int] = {}

    def part(name: str) -> None:
        read_before[name] = len(read)
        ours.send(b"x")

    batch = SimpleNamespace(flush=lambda: part("batches"))
    monkeypatch.setattr(recorder, "gatherers", [batch])

    def progress_line(*_: Any, **__: Any) -> dict[str, Any]:
        part("progress")
        return {}

    monkeypatch.setattr("swarmproof.fleet.extension.progress_line", progress_line)
    anything = SimpleNamespace(
        is_master=False,
        environment=SimpleNamespace(runner=None),
        store=None,
        lost_workers=set(),
        _master_watch=SimpleNamespace(has_died=lambda: False),
        _roll=SimpleNamespace(look=lambda: None, lost=set()),
        _reckon=lambda: part("records"),
        _progress=SimpleNamespace(write=lambda line: None),
        _start_ns=0,
        _health=None,
        _offered=None,
        _abort_if_missed=lambda: None,
    )
    try:
        gevent.spawn_later(0.001, RunExtension._tick, anything).get(timeout=DEADLINE_S)
    finally:
        watcher.close()
        ours.close()
        theirs.close()
    assert read_before == {"batches": 0, "records": 1, "progress": 2}
