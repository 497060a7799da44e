"""Run directories made up through the records API: a simulated store, clients, kills, and planted lies."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from records.faults import FaultRecord, append_fault
from records.latency import FAILED, OK, UNKNOWN, LatencyLog, LatencyRecorder
from records.operations import Operation, OperationLog
from records.run_directory import RUN_JSON, RunDirectory
from records.violations import ViolationLog

S = 1_000_000_000
MS = 1_000_000


@dataclass
class Store:
    """A correct key-value store: what an operation answers at the moment it takes effect."""

    index: int = 0
    values: dict[str, tuple[str | None, int | None]] = field(default_factory=dict)

    def apply(self, op: Operation) -> None:
        value, version = self.values.get(op.key, (None, None))
        if op.op == "get":
            op.out, op.version = value, version
        elif op.op == "cas" and op.expect != value:
            op.ok, op.out, op.version = False, value, version
        else:
            self.index += 1
            after = {"delete": None, "append": (value or "") + (op.value or "")}.get(op.op, op.value)
            op.ok = True if op.op == "cas" else None
            op.version = self.index
            self.values[op.key] = (after, self.index)


def simulate(
    seed: int = 1,
    *,
    clients: int = 10,
    registers: int = 8,
    lists: int = 4,
    seconds: float = 10.0,
    pause_s: float = 0.01,
    kills_s: tuple[float, ...] = (4.0,),
    unknown: float = 0.002,
    nodes: int = 3,
    deletes: bool = True,
    final: bool = True,
    start_ns: int = 0,
) -> list[Operation]:
    """A true history, ordered by call: a steady mix, an outage of half a second at each kill, final reads."""
    rng = random.Random(seed)
    store = Store()
    pending: list[tuple[float, int, Operation, bool]] = []
    identity = 0
    seen: dict[str, str | None] = {}
    kinds = ["put", "get", "get", "cas"] + (["delete"] if deletes else [])
    for client in range(clients):
        at = rng.uniform(0, pause_s)
        while at < seconds:
            identity += 1
            if rng.random() < lists / max(1, lists + registers):
                key, kind = f"list-{rng.randrange(lists)}", rng.choice(["append", "append", "get"])
            else:
                key, kind = f"key-{rng.randrange(registers)}", rng.choice(kinds)
            took = rng.expovariate(1 / 0.002) + 0.0005
            effect = at + rng.uniform(0.2, 0.8) * took
            lost_reply = False
            for kill in kills_s:
                if at < kill + 0.5 and at + took > kill:
                    took = kill + 0.5 - at + rng.uniform(0.001, 0.05)
                    effect = kill + 0.5 + rng.uniform(0, 0.0009) if at + 0.0002 > kill - 0.002 else effect
                    lost_reply = rng.random() < 0.3
            op = Operation(
                id=identity,
                client=client,
                op=kind,
                key=key,
                value=f"{client}.{identity};" if kind in ("put", "append", "cas") else None,
                node=1 + client % nodes,
                call_ns=start_ns + int(at * S),
                return_ns=start_ns + int((at + took) * S),
                status="ok",
            )
            pending.append((effect, identity, op, lost_reply or rng.random() < unknown))
            at += took + rng.expovariate(1 / pause_s)
    history: list[Operation] = []
    for _, _, op, lost in sorted(pending, key=lambda item: item[:2]):
        if op.op == "cas":
            op.expect = seen.get(op.key) if rng.random() < 0.3 else store.values.get(op.key, (None, None))[0]
        if lost and rng.random() < 0.5:
            op.status, op.return_ns = "info", None
            history.append(op)
            continue
        store.apply(op)
        seen[op.key] = op.value if op.value else op.out
        if lost:
            op.status, op.return_ns = "info", None
            op.out = op.ok = op.version = None
        history.append(op)
    if final:
        at = seconds + max([1.0, *(kill + 0.6 - seconds for kill in kills_s)])
        for key in sorted({op.key for op in history}):
            for node in range(1, nodes + 1):
                identity += 1
                at += 0.001
                read = Operation(identity, 1000, "get", key, call_ns=start_ns + int(at * S), final=True, node=node)
                read.return_ns, read.status = read.call_ns + 500_000, "ok"
                store.apply(read)
                history.append(read)
    return sorted(history, key=lambda op: op.call_ns)


def fault(
    number: int, at_s: float, start_ns: int, *, leader: int = 1, term: int = 1, took_effect: bool = True
) -> FaultRecord:
    """A leader kill at ``at_s`` with a plausible recovery."""
    after = leader % 3 + 1
    at_ns = start_ns + int(at_s * S)
    return FaultRecord(
        id=number,
        kind="kill",
        target="leader",
        chosen=f"n{leader}",
        why=f"n{leader} leads term {term}",
        requested_ns=at_ns,
        elapsed_s=at_s,
        observed=f"process of n{leader} is gone" if took_effect else "the process is still there",
        took_effect=took_effect,
        effect_ns=at_ns + 2 * MS if took_effect else None,
        healed_ns=at_ns + 3 * S,
        before={"leader": f"n{leader}", "term": term},
        after={"leader": f"n{after}", "term": term + 1},
        figures={"new_leader_s": 0.41, "first_ack_s": 0.47, "detection_s": 0.003},
    )


def write_run(
    root: Path,
    history: list[Operation],
    *,
    name: str = "synthetic",
    faults: list[FaultRecord] | None = None,
    start_ns: int | None = None,
    violations: Callable[[ViolationLog], None] | None = None,
    facts: dict[str, object] | None = None,
    latency: bool = True,
    others: tuple[str, ...] = (),
) -> RunDirectory:
    """Put a history, its latencies and its faults into a run directory."""
    run = RunDirectory.create(root, name)
    start_ns = start_ns if start_ns is not None else min((op.call_ns for op in history), default=time.monotonic_ns())
    end_ns = max((op.return_ns or op.call_ns for op in history), default=start_ns + S)
    log = OperationLog(run.operations_dir / "worker-1.msgpack", "worker-1")
    recorder = LatencyRecorder()
    for op in history:
        identity = log.invoke(
            op.client,
            op.op,
            op.key,
            op.value,
            op.expect,
            node=op.node,
            stale=op.stale,
            final=op.final,
            call_ns=op.call_ns,
        )
        if op.return_ns is not None:
            log.complete(
                identity, op.status, return_ns=op.return_ns, out=op.out, ok=op.ok, version=op.version, node=op.node
            )
        outcome = {"ok": OK, "fail": FAILED, "info": UNKNOWN}[op.status]
        ended = op.return_ns or op.call_ns + 2 * S
        if latency and not op.final:
            recorder.record(f"kv {op.op}", op.call_ns - 200_000, op.call_ns, ended, outcome)
            for other in others:
                recorder.record(other, op.call_ns - 50_000, op.call_ns, op.call_ns + (ended - op.call_ns) // 4, OK)
    log.close()
    latency_log = LatencyLog(run.latency_dir / "worker-1.msgpack", "worker-1")
    latency_log.append(recorder.take())
    latency_log.close()
    replies = ViolationLog(run.violations_dir / "worker-1.jsonl", "worker-1")
    if violations:
        violations(replies)
    replies.close()
    for record in faults or []:
        append_fault(run, record)
    run.write_json(
        RUN_JSON,
        {
            "name": name,
            "plan": name,
            "arguments": ["run", name],
            "seed": 7,
            "host": "testhost",
            "versions": {"swarmproof": "0.1.0"},
            "start_ns": start_ns,
            "end_ns": end_ns,
            "load": {"locustfile": name, "users": 10, "start_ns": start_ns, "end_ns": end_ns, "lost_workers": []},
            **(facts or {}),
        },
    )
    return run
