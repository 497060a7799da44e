"""What is made of a long run at its end is made without holding up the event loop, and not twice."""

from pathlib import Path

import gevent
import numpy as np
import pytest

from records.hlog import read_hlog
from records.latency import LatencyLog, LatencyRecorder
from records.run_directory import LATENCY_HLOG, REQUESTS_CSV, REQUESTS_JSON, RunDirectory
from swarmproof.fleet.results import Results

S = 1_000_000_000
SECONDS = 300
OPERATIONS = ("kv append", "kv get", "kv put", "kv cas")
LINES = SECONDS * len(OPERATIONS) * 2
FILES = (LATENCY_HLOG, REQUESTS_CSV, REQUESTS_JSON)


def record(run: RunDirectory, seconds: range) -> None:
    """Ten operations of each kind in each of these seconds, a delta for each second."""
    log = LatencyLog(run.latency_dir / "worker-1.msgpack", "worker-1")
    for second in seconds:
        recorder = LatencyRecorder()
        end_ns = (1000 + second) * S + np.arange(10, dtype=np.int64) * (S // 10)
        for operation in OPERATIONS:
            recorder.record_runs(operation, end_ns - 2_000_000, end_ns - 1_000_000, end_ns, None)
        log.append(recorder.take())
    log.close()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory.create(tmp_path, "long")
    record(run, range(SECONDS))
    return run


class Turns:
    """How often somebody who only waits for his turn has one, and who waits for a timer."""

    def __init__(self) -> None:
        self.ready = self.timed = 0

    def __enter__(self) -> "Turns":
        self._greenlets = [gevent.spawn(self._wait, "ready", 0), gevent.spawn(self._wait, "timed", 0.005)]
        return self

    def __exit__(self, *_: object) -> None:
        gevent.killall(self._greenlets)

    def _wait(self, name: str, seconds: float) -> None:
        while True:
            gevent.sleep(seconds)
            setattr(self, name, getattr(self, name) + 1)


def test_everybody_else_has_a_turn_between_two_lines(run: RunDirectory) -> None:
    results = Results()
    with Turns() as reading:
        results.store(run, 1300 * S)
    assert reading.ready >= SECONDS // 2
    with Turns() as writing:
        results.write(run, 1300 * S, 1_700_000_000.0)
    assert writing.ready >= LINES // 2
    assert writing.timed >= 3, "heartbeats wait for timers and sockets"
    written = read_hlog(run.file(LATENCY_HLOG))
    assert {tag: histogram.total for tag, histogram in written.items() if not tag.startswith("service/")} == {
        operation.replace(" ", "_"): SECONDS * 10 for operation in OPERATIONS
    }


def test_nothing_is_made_twice_when_nothing_has_arrived(run: RunDirectory) -> None:
    results = Results()
    results.write(run, 1300 * S, 0.0)
    store = results.store(run, 1300 * S)
    for name in FILES:
        run.file(name).unlink()
    results.write(run, 1300 * S, 0.0)
    assert not any(run.file(name).exists() for name in FILES)
    assert results.store(run, 1300 * S) is store

    record(run, range(SECONDS, SECONDS + 2))  # a worker's last report
    results.write(run, 1302 * S, 0.0)
    assert all(run.file(name).exists() for name in FILES)
    assert results.store(run, 1302 * S).summary("kv get").count == (SECONDS + 2) * 10
    assert results.store(run, 1302 * S).seconds()[-1] == 1000 + SECONDS + 1


def test_the_next_run_waits_until_the_last_one_is_written(run: RunDirectory) -> None:
    results = Results()
    writer = gevent.spawn(results.write, run, 1300 * S, 0.0)
    gevent.sleep(0)
    assert not writer.ready()
    results.forget()
    assert all(run.file(name).exists() for name in FILES)
    writer.get()
