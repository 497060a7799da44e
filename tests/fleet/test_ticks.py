"""What a process does for itself once a second leaves the event loop its turn in between."""

from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent import socket

from records.recorder import recorder
from swarmproof.fleet.extension import RunExtension

DEADLINE_S = 20


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
        _gather=lambda: part("records"),
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
