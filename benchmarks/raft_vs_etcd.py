"""Our Raft cluster beside etcd: the same client, machine, timeouts and durability (fsync on in both), in turns.

    .venv/bin/python benchmarks/raft_vs_etcd.py [--rounds 3] [--seconds 5] [--kills 20]

Throughput: one client process, N connections with one request in flight each, 100-byte values on 1,000 keys; a fresh
cluster of three for each round, the two systems alternating. etcd gets plain puts (`put guarded` shows what its
idempotent ones cost); ours are always idempotent. Failover: the product's own run of a plan that kills the leader
with SIGKILL every 4 s under 8 users; the figures are those of its fault records. "The same timeouts" means in effect:
etcd counts ticks of one heartbeat (50 ms), so that --election-timeout 300 fires 6 to 11 ticks after a heartbeat, of
which the first comes anywhere within 50 ms: 250 to 550 ms. Ours counts ticks of 10 ms and is given just that range.

Bars, exit code 1 when one is missed: at least etcd's puts/s at 64 clients; median failover no slower than etcd's;
every election within 2 s. The client's own CPU share stands in the table: near 100 % it, not the cluster, is measured.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

VALUE_BYTES = 100
KEYS = 1_000
WARM_UP_S = 1.0
MANY = 64
ELECTION_WITHIN_S = 2.0
# The node that is loaded and how: (name, operation, clients, at the leader?)
WORKLOADS = (
    ("put, 1 client", "put", 1, True),
    (f"put, {MANY} clients", "put", MANY, True),
    (f"get at leader, {MANY} clients", "get", MANY, True),
    (f"get at follower, {MANY} clients", "get", MANY, False),
)
GUARDED = (f"put guarded, {MANY} clients", "put_guarded", MANY, True)
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

ELECTION_ARGUMENTS = ["--election-ms", "250-550"]
PLAN = """
title = "Failover of {kind}"
seed = {seed}
[[target]]
kind = "{kind}"
nodes = 3
arguments = {arguments}
[load]
locustfile = "raft_kv"
users = 8
run_time = "{run_time_s}s"
[[fault]]
kind = "kill"
target = "leader"
at = "4s"
every = "4s ± 0.3s"
restart_after = "1.5s"
"""


class Measured(NamedTuple):
    """One workload on one system. Latencies in ms; CPU shares of one core."""

    rate: float
    p50_ms: float
    p99_ms: float
    client_cpu: float
    nodes_cpu: float
    failed: int


# -- the client process ----------------------------------------------------------------------------------------------


def run_client(host: str, operation: str, clients: int, seconds: float) -> dict[str, Any]:
    """Load one node for `seconds` after a warm-up: rate, latencies and the CPU share of this process."""
    import locust  # noqa: F401, I001  (first of all: it patches what gevent must have patched)
    import gevent

    from protocols.host import parse_host
    from protocols.kv import GET, NOT_FOUND, OK, PUT, KvRequest
    from users.connection import Call, Connection
    from users.etcd_kv import EtcdSession
    from users.failures import RequestFailure
    from users.kv_cluster import KvSession
    from users.transport import Endpoint

    target = parse_host(host)
    address, port = target.addresses[0]
    session = EtcdSession if target.scheme == "etcd" else KvSession
    with_session = target.scheme == "kv" or operation == "put_guarded"
    latencies_ns: list[int] = []
    failed = 0
    refusals: dict[str, int] = {}
    begin_ns = time.monotonic_ns() + int(WARM_UP_S * 1e9)
    end_ns = begin_ns + int(seconds * 1e9)

    def client(number: int) -> None:
        nonlocal failed
        rng = random.Random(number)
        connection = Connection(Endpoint(address, port), session)
        connection.open()
        call = Call()
        codec = connection.session.codec  # type: ignore[attr-defined]
        client_id, seq = random.SystemRandom().getrandbits(64), 0  # a session of its own in every run
        while True:
            seq += 1
            key = f"bench/{rng.randrange(KEYS)}"
            if operation == "get":
                request = KvRequest(GET, key)
            else:
                value = f"{client_id:016x}-{seq}".ljust(VALUE_BYTES, ".")
                named = (client_id, seq) if with_session else (None, None)
                request = KvRequest(PUT, key, value, None, *named)
            request_id = connection.next_id()
            try:
                reply = connection.exchange(request_id, codec.encode(request_id, request), call).reply
                good, why = reply.result in (OK, NOT_FOUND), reply.result
            except RequestFailure as failure:
                good, why = False, failure.text
            if not good:
                refusals[why] = refusals.get(why, 0) + 1
            if call.return_ns >= end_ns:
                break
            if call.call_ns >= begin_ns:
                if good:
                    latencies_ns.append(call.return_ns - call.call_ns)
                else:
                    failed += 1
        connection.close(0)

    greenlets = [gevent.spawn(client, number) for number in range(clients)]
    gevent.sleep(max((begin_ns - time.monotonic_ns()) / 1e9, 0))
    cpu_s, wall_s = time.process_time(), time.monotonic()
    gevent.sleep(max((end_ns - time.monotonic_ns()) / 1e9, 0))
    share = (time.process_time() - cpu_s) / (time.monotonic() - wall_s)
    gevent.joinall(greenlets, raise_error=True)
    latencies_ns.sort()
    if refusals:
        print(f"{host} {operation}: {refusals}", file=sys.stderr)
    return {
        "rate": len(latencies_ns) / seconds,
        "p50_ms": _quantile(latencies_ns, 0.50) / 1e6,
        "p99_ms": _quantile(latencies_ns, 0.99) / 1e6,
        "client_cpu": share,
        "failed": failed,
    }


def _quantile(ordered: Sequence[int], share: float) -> float:
    return float(ordered[min(int(len(ordered) * share), len(ordered) - 1)]) if ordered else float("nan")


# -- throughput ------------------------------------------------------------------------------------------------------


def measure_throughput(kind: str, seconds: float, nodes_dir: Path) -> dict[str, Measured]:
    """All workloads on a fresh cluster."""
    from swarmproof.plan import EtcdTable, RaftTable
    from swarmproof.targets.base import Surroundings
    from swarmproof.targets.building import build_targets
    from swarmproof.targets.cluster import ClusterTarget
    from swarmproof.targets.guard import Guard

    table = EtcdTable(kind="etcd") if kind == "etcd" else RaftTable(kind="raft")
    workloads = [*WORKLOADS, *([GUARDED] if kind == "etcd" else [])]
    found: dict[str, Measured] = {}
    with Guard() as guard:
        (cluster,) = build_targets([table], Surroundings(guard, nodes_dir))
        assert isinstance(cluster, ClusterTarget)
        cluster.start()
        try:
            for name, operation, clients, at_leader in workloads:
                leader = cluster.wait_for_leader().node
                node = leader if at_leader else next(m.node_id for m in cluster.members if m.node_id != leader)
                scheme = cluster.address.partition("://")[0]
                host = f"{scheme}://127.0.0.1:{cluster.member_of(node).port}"
                pids = [member.process.pid for member in cluster.members if member.process.pid is not None]
                before_s, began = _cpu_s(pids), time.monotonic()
                arguments = ["--client", host, "--operation", operation, "--clients", str(clients)]
                done = subprocess.run(
                    [sys.executable, __file__, *arguments, "--seconds", str(seconds)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                nodes_cpu = (_cpu_s(pids) - before_s) / max(time.monotonic() - began, 1e-9)
                # The process also starts and warms up; the nodes work in the last two of the three.
                nodes_cpu *= (time.monotonic() - began) / (seconds + WARM_UP_S)
                found[name] = Measured(nodes_cpu=nodes_cpu, **json.loads(done.stdout.splitlines()[-1]))
        finally:
            cluster.stop()
    return found


def _cpu_s(pids: Sequence[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS_PER_S


# -- failover --------------------------------------------------------------------------------------------------------


def measure_failover(kind: str, kills: int, directory: Path, seed: int) -> tuple[list[float], list[float]]:
    """(seconds to the new leader, seconds to the first acknowledged write) of each kill."""
    from records.faults import read_faults
    from records.run_directory import RunDirectory

    plan = directory / f"{kind}-{seed}.toml"
    arguments = json.dumps(ELECTION_ARGUMENTS if kind == "raft" else [])
    plan.write_text(PLAN.format(kind=kind, seed=seed, run_time_s=4 * (kills + 1), arguments=arguments))
    out = directory / f"{kind}-{seed}"
    done = subprocess.run(
        [str(Path(sys.executable).with_name("swarmproof")), "run", str(plan), "--quiet", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    runs = sorted(path for path in out.glob("*") if (path / "faults.jsonl").exists() and not path.is_symlink())
    if not runs:
        raise SystemExit(f"the failover run of {kind} did not work: {done.stderr.strip()}")
    faults = read_faults(RunDirectory.open(runs[-1]))
    verdict = json.loads((runs[-1] / "verdict.json").read_text())
    said = "" if verdict["verdict"] == "valid" else f": {verdict.get('summary')}"
    print(f"  {kind}: {len(faults)} kills, verdict {verdict['verdict']}{said}", flush=True)
    elections = [fault.figures["new_leader_s"] for fault in faults if "new_leader_s" in fault.figures]
    acknowledged = [fault.figures["first_ack_s"] for fault in faults if "first_ack_s" in fault.figures]
    return elections, acknowledged


# -- the report ------------------------------------------------------------------------------------------------------


def best(rounds: Sequence[Measured]) -> Measured:
    """The median round by rate."""
    return sorted(rounds, key=lambda measured: measured.rate)[len(rounds) // 2]


def print_throughput(ours: dict[str, list[Measured]], theirs: dict[str, list[Measured]]) -> float:
    """The table; gives the ratio of puts/s with many clients."""
    print(
        f"\n{'':32} {'raft/s':>9} {'etcd/s':>9} {'ratio':>6}   raft p50/p99 ms   etcd p50/p99 ms   CPU client CPU nodes"
    )
    bar = 0.0
    for name in [*theirs]:
        etcd = best(theirs[name])
        raft = best(ours[name if name in ours else f"put, {MANY} clients"])
        ratio = raft.rate / etcd.rate
        if name == f"put, {MANY} clients":
            bar = ratio
        print(
            f"{name:32} {raft.rate:9,.0f} {etcd.rate:9,.0f} {ratio:5.2f}x   {raft.p50_ms:7.2f}/{raft.p99_ms:7.2f}   "
            f"{etcd.p50_ms:7.2f}/{etcd.p99_ms:7.2f}   {raft.client_cpu:4.0%}/{etcd.client_cpu:4.0%}   "
            f"{raft.nodes_cpu:4.0%}/{etcd.nodes_cpu:4.0%}"
            + (f"   {raft.failed + etcd.failed} failed" * bool(raft.failed + etcd.failed))
        )
    return bar


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of each system (default 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each workload (default 5)")
    parser.add_argument("--kills", type=int, default=20, help="leader kills of each system (default 20)")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--operation", default="put", help=argparse.SUPPRESS)
    parser.add_argument("--clients", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(run_client(options.client, options.operation, options.clients, options.seconds)))
        return 0
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="raft-vs-etcd-", dir=os.environ.get("TMPDIR")) as folder:
        directory = Path(folder)
        results: dict[str, dict[str, list[Measured]]] = {"raft": {}, "etcd": {}}
        for number in range(options.rounds):
            for kind in ("raft", "etcd"):
                print(f"round {number + 1} of {options.rounds}: {kind}", flush=True)
                found = measure_throughput(kind, options.seconds, directory / f"{kind}{number}")
                for name, measured in found.items():
                    results[kind].setdefault(name, []).append(measured)
        if options.rounds:
            ratio = print_throughput(results["raft"], results["etcd"])
            if ratio < 1.0:
                missed.append(f"{ratio:.2f}x etcd's puts/s with {MANY} clients, wanted at least 1.0x")
        if options.kills:
            print(f"\nfailover, {options.kills} SIGKILLs of the leader under 8 writers and readers:", flush=True)
            failover = {kind: measure_failover(kind, options.kills, directory, 1) for kind in ("raft", "etcd")}
            print(f"{'':32} {'raft':>22} {'etcd':>22}    min / median / max in s")
            for row, name in ((0, "new leader"), (1, "first acknowledged write")):
                print(f"{name:32} {_spread(failover['raft'][row]):>22} {_spread(failover['etcd'][row]):>22}")
            ours, theirs = failover["raft"], failover["etcd"]
            if max(ours[0], default=9.9) > ELECTION_WITHIN_S:
                missed.append(
                    f"an election took {max(ours[0], default=9.9):.2f} s, wanted within {ELECTION_WITHIN_S:g} s"
                )
            if statistics.median(ours[1]) > statistics.median(theirs[1]):
                missed.append("the median failover is slower than etcd's")
    for sentence in missed:
        print(f"MISSED: {sentence}")
    if not missed:
        print("all bars kept")
    return 1 if missed else 0


def _spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.2f} / {statistics.median(seconds):.2f} / {max(seconds):.2f}" if seconds else "none"


if __name__ == "__main__":
    sys.exit(main())
