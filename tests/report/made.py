"""Judged synthetic runs for the report tests, made once."""

import time
from collections.abc import Callable
from pathlib import Path

from records import violations as kinds
from records.run_directory import RunDirectory
from records.violations import ViolationLog
from swarmproof.judge import judge
from tests.judge.synthetic import S, fault, simulate, write_run


def valid_run(root: Path) -> RunDirectory:
    """Two leader kills, three protocols."""
    start_ns = time.monotonic_ns()
    history = simulate(4, seconds=14.0, kills_s=(4.0, 9.0), start_ns=start_ns)
    faults = [fault(1, 4.0, start_ns), fault(2, 9.0, start_ns, leader=2, term=2)]
    run = write_run(root, history, faults=faults, start_ns=start_ns, others=("envelope echo", "f00d toggle"))
    judge(run)
    return run


def invalid_run(root: Path) -> RunDirectory:
    """An acknowledged append is lost at the kill."""
    start_ns = time.monotonic_ns()
    history = simulate(4, seconds=8.0, start_ns=start_ns)
    lost = [op for op in history if op.op == "append" and op.status == "ok" and op.return_ns < start_ns + 4 * S][-1]
    for op in history:
        if op.op == "get" and op.out:
            op.out = op.out.replace(lost.value, "") or None
    run = write_run(root, history, faults=[fault(1, 4.0, start_ns)], start_ns=start_ns)
    judge(run)
    return run


def broken_replies_run(root: Path, detail: str = "the reply of request 12 came on connection 3") -> RunDirectory:
    def plant(log: ViolationLog) -> None:
        log.add(kinds.CROSSED, "envelope echo", detail, request_id=12, expected=b"\x02", got=b"<b>\x00")
        log.add(kinds.LATE, "envelope echo")

    run = write_run(root, simulate(4, seconds=3.0, kills_s=(), start_ns=time.monotonic_ns()), violations=plant)
    judge(run)
    return run


def without_effect_run(root: Path) -> RunDirectory:
    start_ns = time.monotonic_ns()
    history = simulate(4, seconds=8.0, start_ns=start_ns)
    run = write_run(root, history, faults=[fault(1, 4.0, start_ns, took_effect=False)], start_ns=start_ns)
    judge(run)
    return run


def half_there_runs(root: Path) -> list[RunDirectory]:
    """Run directories of runs that were cut off, or of which files were damaged."""
    made: list[RunDirectory] = [RunDirectory.create(root, "nothing at all")]

    def damaged(name: str, damage: Callable[[RunDirectory], object]) -> None:
        run = write_run(root, simulate(4, seconds=2.0, kills_s=(), start_ns=time.monotonic_ns()), name=name)
        judge(run)
        damage(run)
        made.append(run)

    damaged("never judged", lambda run: run.file("verdict.json").unlink())
    damaged("verdict is no JSON", lambda run: run.file("verdict.json").write_text("{half"))
    damaged("verdict is a list", lambda run: run.file("verdict.json").write_text("[1]"))
    damaged("verdict is bytes", lambda run: run.file("verdict.json").write_bytes(b"\xff\xfe\x00"))
    damaged("checks are odd", lambda run: run.write_json("verdict.json", {"verdict": "invalid", "checks": [1, {}]}))
    damaged("odd example", lambda run: run.write_json("counterexample.json", {"operations": [{}, 3], "fault": {}}))
    damaged("no run.json", lambda run: run.file("run.json").unlink())
    damaged("load is odd", lambda run: run.write_json("run.json", {"load": 3, "start_ns": "x", "plan": ["a"]}))
    damaged("latency cut off", lambda run: _cut(next(run.latency_dir.iterdir())))
    damaged("latency is noise", lambda run: next(run.latency_dir.iterdir()).write_bytes(b"\xc1\x01noise"))
    damaged("latency is another thing", lambda run: next(run.latency_dir.iterdir()).write_bytes(b"\x01\x02\x03"))
    damaged("faults are cut off", lambda run: run.file("faults.jsonl").write_text('{"id": 1, "kind": "ki'))
    damaged(
        "faults are odd", lambda run: run.file("faults.jsonl").write_text('{"id": 1, "kind": "kill", "target": "x"}\n')
    )
    damaged("violations are noise", lambda run: (run.violations_dir / "x.jsonl").write_bytes(b"\xff[]\n3\n"))
    return made


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
