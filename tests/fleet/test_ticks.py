"""What a process does for itself once a second leaves the event loop its turn in between."""

import time
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket

from records.recorder import recorder
from swarmproof.fleet import turns
from swarmproof.fleet.run_extension import AFTER_THE_SECOND_S, RunExtension
from swarmproof.fleet.turns import in_turns

DEADLINE_S = 20


def test_a_process_without_workers_reckons_when_a_second_is_over() -> None:
    """And not in the middle of one, of which the live page would show a part as the whole."""
    at_s: list[float] = []
    anything: Any = SimpleNamespace(is_worker=False, _tick=lambda: iter([at_s.append(time.monotonic())]))
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

    def batches() -> Iterator[None]:
        part("a batch")
        yield
        part("another")

    monkeypatch.setattr(turns, "TURN_NS", 0)
    monkeypatch.setattr(recorder, "gatherers", [SimpleNamespace(parts=batches)])

    def progress_line(*_: Any, **__: Any) -> Generator[None, None, dict[str, Any]]:
        part("an operation")
        yield
        part("progress")
        return {}

    monkeypatch.setattr("swarmproof.fleet.run_extension.progress_line", progress_line)
    anything = SimpleNamespace(
        is_master=False,
        environment=SimpleNamespace(runner=None),
        store=None,
        lost_workers=set(),
        _master_watch=SimpleNamespace(has_died=lambda: False),
        _roll=SimpleNamespace(look=lambda: None, lost=set()),
        _reckon=lambda: iter([part("records")]),
        _progress=SimpleNamespace(write=lambda line: None),
        start_ns=0,
        health=None,
        offered=None,
        _abort_if_missed=lambda: None,
    )
    try:
        gevent.spawn_later(0.001, lambda: in_turns(RunExtension._tick(anything))).get(timeout=DEADLINE_S)
    finally:
        watcher.close()
        ours.close()
        theirs.close()
    assert read_before == {"a batch": 0, "another": 1, "records": 2, "an operation": 3, "progress": 4}


def test_parts_that_take_no_time_are_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of operations do not make a tick that takes longer than its second."""
    paused = []
    monkeypatch.setattr(gevent, "sleep", paused.append)
    monkeypatch.setattr(turns, "TURN_NS", 3600 * 10**9)
    in_turns(iter([None] * 1000))
    assert paused == []
