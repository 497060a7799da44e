"""Real nodes that are killed, paused, starved of disk and started again: nothing acknowledged is lost."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from protocols import kv
from protocols.kv import KvRequest
from servers.raft.inspect import main as inspect
from tests.processes import Process, ServerProcess, wait_until
from tests.servers.raft.cluster import Cluster, KvConnection


def test_a_killed_leader_is_replaced_and_comes_back_with_all_data(tmp_path: Path) -> None:
    with Cluster(3, tmp_path) as cluster:
        first = cluster.leader()
        for number in range(20):
            assert cluster.write(KvRequest(kv.PUT, f"k{number}", "old", client_id=1, seq=number + 1)).result == kv.OK
        cluster.kill(first)
        second = cluster.leader(but_not=first)
        assert second != first
        # A retry of an acknowledged write, at the new leader: not applied again.
        retried = cluster.write(KvRequest(kv.PUT, "k19", "old", client_id=1, seq=20))
        assert retried.replayed
        assert cluster.write(KvRequest(kv.PUT, "k0", "new", client_id=1, seq=21)).result == kv.OK
        cluster.start(first)
        assert cluster.read(first, "k0").value == "new"
        for number in range(1, 20):
            assert cluster.read(first, f"k{number}").value == "old"


def test_retries_through_changes_of_leader_are_applied_once(tmp_path: Path) -> None:
    """Appends of one client that retries until it hears OK, while the leader is killed three times: the value has
    each of them exactly once, in order."""
    with Cluster(3, tmp_path) as cluster:
        cluster.leader()
        stop = threading.Event()
        written: list[int] = []

        def writer() -> None:
            while not stop.is_set():
                seq = len(written) + 1
                reply = cluster.write(KvRequest(kv.APPEND, "list", f"{seq},", client_id=5, seq=seq))
                assert reply.result == kv.OK
                written.append(seq)

        thread = threading.Thread(target=writer)
        thread.start()
        try:
            for _ in range(3):
                seen = len(written)
                wait_until(lambda seen=seen: len(written) > seen + 20, "writes to go on")  # type: ignore[misc]
                leader = cluster.leader()
                cluster.kill(leader)
                cluster.leader(but_not=leader)
                cluster.start(leader)
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()
        expected = "".join(f"{seq}," for seq in written)
        for node in cluster.ids:
            assert cluster.read(node, "list").value == expected


def test_all_nodes_killed_at_once_remember_everything(tmp_path: Path) -> None:
    with Cluster(3, tmp_path) as cluster:
        for number in range(30):
            cluster.write(KvRequest(kv.PUT, f"k{number}", str(number), client_id=1, seq=number + 1))
        term = cluster.status(cluster.leader())
        cluster.kill(*cluster.ids)
        cluster.start(*cluster.ids)
        leader = cluster.leader()
        after = cluster.status(leader)
        assert after is not None
        assert term is not None
        assert after.term > term.term, "a term was used twice"
        for number in range(30):
            assert cluster.read(cluster.ids[number % 3], f"k{number}").value == str(number)


def test_a_paused_leader_that_wakes_serves_no_stale_read_and_loses_no_accepted_write(tmp_path: Path) -> None:
    with Cluster(3, tmp_path) as cluster:
        old = cluster.leader()
        assert cluster.write(KvRequest(kv.PUT, "k", "before", client_id=1, seq=1)).result == kv.OK
        with cluster.connect(old) as reader, cluster.connect(old) as writer:
            cluster.pause(old)
            # These wait in the paused node's sockets; it finds them before it can learn of its successor.
            reads = [reader.send(KvRequest(kv.GET, "k")) for _ in range(20)]
            write = writer.send(KvRequest(kv.APPEND, "k", "+zombie", client_id=2, seq=1))
            new = wait_until(lambda: leader_among(cluster, old), "a successor")
            with cluster.connect(new) as connection:
                assert connection.call(KvRequest(kv.PUT, "k", "after", client_id=1, seq=2)).result == kv.OK
            cluster.resume(old)
            for request_id in reads:
                reply = reader.reply_to(request_id)
                assert reply.result in (kv.OK, kv.NOT_LEADER, kv.UNKNOWN)
                assert reply.value != "before", "a stale read"
            reply = writer.reply_to(write)
        value = cluster.read(old, "k").value
        assert value in ("after", "after+zombie")
        if reply.result == kv.OK:
            assert value == "after+zombie"
        elif reply.result != kv.UNKNOWN:
            assert value == "after"


def leader_among(cluster: Cluster, but_not: int) -> int:
    """Like Cluster.leader, without asking a node that is paused."""
    for node in cluster.ids:
        if node != but_not:
            status = cluster.status(node)
            if status is not None and status.role == "leader":
                return node
    return 0


def test_a_leader_asked_to_stop_hands_over_and_says_what_became_of_its_writes(tmp_path: Path) -> None:
    with Cluster(3, tmp_path, "--election-ms", "4000-4500", "--heartbeat-ms", "100") as cluster:
        # With so long a timeout nobody takes over for seconds unless the leader hands over.
        leader = cluster.leader()
        cluster.write(KvRequest(kv.PUT, "k", "v", client_id=1, seq=1))
        begun_s = time.monotonic()
        assert cluster.terminate(leader) == 0
        cluster.leader(but_not=leader)
        assert time.monotonic() - begun_s < 4
        assert "handing_over_leadership" in cluster.processes[leader].log()
        assert cluster.write(KvRequest(kv.APPEND, "k", "!", client_id=1, seq=2)).result == kv.OK


def test_five_nodes_bear_two_deaths_and_wait_at_three(tmp_path: Path) -> None:
    with Cluster(5, tmp_path, "--request-timeout", "1") as cluster:
        cluster.write(KvRequest(kv.PUT, "k", "1", client_id=1, seq=1))
        for _ in range(2):
            leader = cluster.leader()
            cluster.kill(leader)
            cluster.leader(but_not=leader)
        assert cluster.write(KvRequest(kv.PUT, "k", "2", client_id=1, seq=2)).result == kv.OK
        dead = [node for node in cluster.ids if node not in cluster.running()]
        leader = cluster.leader()
        victim = next(node for node in cluster.running() if node != leader)
        cluster.kill(victim)
        for node in cluster.running():
            reply = cluster.call(node, KvRequest(kv.PUT, "k", "3"))
            assert reply.result in (kv.UNKNOWN, kv.NOT_LEADER, kv.BUSY), "acknowledged without a majority"
            assert cluster.call(node, KvRequest(kv.GET, "k")).result in (kv.UNKNOWN, kv.NOT_LEADER, kv.BUSY)
        cluster.start(dead[0])
        assert cluster.write(KvRequest(kv.PUT, "k", "4", client_id=1, seq=4)).result == kv.OK
        assert cluster.read(dead[0], "k").value == "4"


def test_a_node_that_was_away_too_long_gets_a_snapshot_and_keeps_it(tmp_path: Path) -> None:
    with Cluster(3, tmp_path, "--snapshot-entries", "40") as cluster:
        cluster.write(KvRequest(kv.APPEND, "sessions", "x", client_id=9, seq=1))
        away = next(node for node in cluster.ids if node != cluster.leader())
        cluster.kill(away)
        with cluster.connect(cluster.leader()) as connection:
            for number in range(300):
                assert connection.call(KvRequest(kv.PUT, f"k{number}", "v" * 500)).result == kv.OK
        cluster.start(away)
        assert cluster.read(away, "k299").value == "v" * 500
        cluster.processes[away].wait_for_log("snapshot_installed")
        cluster.kill(*cluster.ids)
        cluster.start(*cluster.ids)
        for number in range(0, 300, 29):
            assert cluster.read(away, f"k{number}").value == "v" * 500
        # Sessions travel in snapshots: this retry is not applied again.
        assert cluster.write(KvRequest(kv.APPEND, "sessions", "x", client_id=9, seq=1)).replayed
        assert cluster.read(away, "sessions").value == "x"


def test_a_full_disk_stops_the_node_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with Cluster(3, tmp_path) as cluster:
        leader = cluster.leader()
        poor = next(node for node in cluster.ids if node != leader)
        cluster.terminate(poor)
        # A limit on the size of files is the nearest thing to a full disk that needs no root.
        cluster.start(poor, prefix=["sh", "-c", 'ulimit -f 200; exec "$@"', "sh"])
        with cluster.connect(cluster.leader()) as connection:
            for number in range(40):
                assert connection.call(KvRequest(kv.PUT, f"k{number}", "v" * 20_000)).result == kv.OK
        assert cluster.processes[poor].wait() == 4
        assert "the disk failed (File too large)" in cluster.processes[poor].log()
        cluster.start(poor)
        assert cluster.read(poor, "k39").value == "v" * 20_000


def test_a_node_with_another_secret_stays_outside(tmp_path: Path) -> None:
    with Cluster(3, tmp_path) as cluster:
        leader = cluster.leader()
        stranger = next(node for node in cluster.ids if node != leader)
        cluster.terminate(stranger)
        other = tmp_path / "other secret"
        other.write_text("the secret of somebody else")
        cluster.start(stranger, options=["--secret-file", str(other)])
        cluster.processes[stranger].wait_for_log("wrong secret")
        assert cluster.write(KvRequest(kv.PUT, "k", "v", client_id=1, seq=1)).result == kv.OK
        status = cluster.status(stranger)
        assert status is not None
        assert status.role != "leader"
        assert status.leader is None


# --- starting: what is refused, in one sentence, with exit code 3 ------------------------------------------------


def refusal_of(command: list[str]) -> str:
    """The sentence with which a node refuses to start."""
    process = Process(command)
    try:
        assert process.wait() == 3, process.log()
        assert "Traceback" not in process.log()
        return process.log().splitlines()[-1]
    finally:
        process.close()


def test_a_data_directory_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    cluster = Cluster(3, tmp_path)
    try:
        cluster.start(1)
        directory = str(cluster.data_dir(1))
        assert "is in use by another process" in refusal_of(cluster.command(1, "--port", "0", "--peer-port", "0"))
        cluster.terminate(1)
        assert "belongs to node n1 of cluster 'test', not to node n2" in refusal_of(
            cluster.command(2, "--data-dir", directory)
        )
        assert "not to node n1 of cluster 'other'" in refusal_of(cluster.command(1, "--cluster-id", "other"))
        [segment] = cluster.data_dir(1).glob("log-*")
        data = bytearray(segment.read_bytes())
        data[20] ^= 1
        segment.write_bytes(data)
        sentence = refusal_of(cluster.command(1))
        assert f"{segment} is damaged at byte 0" in sentence
        segment.unlink()
        (tmp_path / "file").write_text("not a directory")
        assert "cannot use the data directory" in refusal_of(cluster.command(1, "--data-dir", str(tmp_path / "file")))
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--id", "7"], "--id 7 is not among --peers (1, 2, 3)"),
        (["--clients", "1=127.0.0.1:1"], "--clients must name the client address of the same nodes as --peers"),
        (["--secret-file", "/nowhere/secret"], "cannot read --secret-file /nowhere/secret: No such file"),
        (["--secret-file", "/dev/null"], "holds fewer than 16 bytes"),
        (["--election-ms", "60-90"], "--election-ms 60-90 is too short for --heartbeat-ms 50"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(tmp_path: Path, options: list[str], sentence: str) -> None:
    assert sentence in refusal_of(Cluster(3, tmp_path).command(1, *options))


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    cluster = Cluster(3, tmp_path)
    for ports in (cluster.ports, cluster.peer_ports):
        with socket.socket() as other:
            other.bind(("127.0.0.1", ports[1]))
            other.listen()
            assert "the port is already in use" in refusal_of(cluster.command(1))


# --- a cluster of one ---------------------------------------------------------------------------------------------


def test_a_single_node_needs_no_options_and_leaves_nothing_behind() -> None:
    with ServerProcess("raft") as server, KvConnection(server.address) as connection:
        wait_until(
            lambda: connection.call(KvRequest(kv.PUT, "k", "v", client_id=1, seq=1)).result == kv.OK, "leadership"
        )
        assert connection.call(KvRequest(kv.GET, "k")).value == "v"
        [directory] = {
            Path(target).parent
            for target in (str(link.readlink()) for link in Path(f"/proc/{server.pid}/fd").iterdir())
            if "swarmproof-raft-" in target
        }
        assert directory.exists()
    assert not directory.exists()


def test_a_single_node_keeps_its_data_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "data"
    for seq in (1, 2):
        with ServerProcess("raft", "--data-dir", str(directory)) as server, KvConnection(server.address) as connection:
            request = KvRequest(kv.APPEND, "k", f"{seq},", client_id=1, seq=seq)
            wait_until(lambda request=request: connection.call(request).result == kv.OK, "leadership")  # type: ignore[misc]
            server.signal(signal.SIGKILL)
            server.popen.wait()
            with pytest.raises((EOFError, OSError)):
                connection.call(KvRequest(kv.GET, "k"))
            server.popen.returncode = 0  # meant so
    assert inspect([str(directory), "--keys"]) == 0
    text = capsys.readouterr().out
    assert "belongs to node n1 of cluster 'swarmproof'" in text
    assert "append k = '2,'  client 1 seq 2" in text
    assert "k = '1,2,'  (version" in text


def test_help_has_an_example() -> None:
    for module in ("servers.raft", "servers.raft.inspect"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        assert f"python -m {module}" in done.stdout
        assert "example" in done.stdout
