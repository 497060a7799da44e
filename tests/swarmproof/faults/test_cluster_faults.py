"""Every fault of a cluster on one that runs: its effect is observed, it is healed, and the cluster works again.

One cluster of three nodes with links for all tests of this file: each of them must leave it whole.
"""

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocols.kv import PUT, KvRequest
from records.faults import FaultRecord
from records.run_directory import RunDirectory
from swarmproof.faults import network
from swarmproof.faults.catalogue import CATALOGUE
from swarmproof.faults.schedule import FaultMistake, build_schedule, parse_fault
from swarmproof.targets.base import LOOPBACK, Surroundings
from swarmproof.targets.cluster import LEADER_WITHIN_S
from swarmproof.targets.guard import Guard
from swarmproof.targets.kv_client import KvConnection, KvUnavailable
from swarmproof.targets.links import LinkBoard
from swarmproof.targets.process import State
from swarmproof.targets.raft import RaftTarget
from tests.processes import wait_until
from tests.swarmproof.faults.conftest import Harness

OVER_WITHIN_S = 90.0


class Laboratory:
    """A cluster, its links, and a fresh engine for each test."""

    def __init__(self, cluster: RaftTarget, board: LinkBoard, directory: Path) -> None:
        self.cluster = cluster
        self.board = board
        self._directory = directory
        self._runs = 0

    def harness(self) -> Harness:
        self._runs += 1
        return Harness([self.cluster], RunDirectory.create(self._directory, f"run{self._runs}"), board=self.board)

    def do(self, text: str, harness: Harness | None = None) -> FaultRecord:
        """Carry out a fault as it is written, and wait until it is over and the cluster is whole."""
        seen = harness or self.harness()
        struck = seen.engine.inject_spec(parse_fault(f"{text} @0s"))
        wait_until(lambda: not seen.engine.active(), f"{text} to be over", OVER_WITHIN_S)
        record = seen.last(struck.id)
        assert self.cluster.wait_until_all_answer(OVER_WITHIN_S) == [], record
        self.cluster.wait_for_leader(LEADER_WITHIN_S * 3)
        seen.history.close()
        return record


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    directory = tmp_path_factory.mktemp("cluster")
    with Guard() as guard:
        board = LinkBoard(guard, directory)
        cluster = RaftTarget(3, Surroundings(guard, directory, None, board), links=("peers", "clients"))
        cluster.start()
        over = threading.Event()
        writer = threading.Thread(target=write_until, args=(cluster, over))
        writer.start()
        try:
            yield Laboratory(cluster, board, directory)
        finally:
            over.set()
            writer.join()
            cluster.stop()
            board.stop()
        assert board.process.state is State.EXITED


def write_until(cluster: RaftTarget, over: threading.Event) -> None:
    """A little load: disks that nobody writes to do not fail."""
    connections = {member.node_id: member.connect(0.5) for member in cluster.members}
    for number in itertools.count():
        leader = cluster.leader()
        if over.wait(0.02):
            break
        if leader is not None:
            with contextlib.suppress(KvUnavailable):
                connections[leader.node].call(KvRequest(PUT, "load", f"v{number}", client_id=77, seq=number + 1))
    for connection in connections.values():
        connection.close()


def assert_healed(record: FaultRecord) -> None:
    assert record.took_effect, record
    assert record.error == ""
    assert record.healed_ns is not None


def test_an_isolated_leader_is_replaced_and_its_links_carry_nothing(laboratory: Laboratory) -> None:
    record = laboratory.do("partition leader for 2s")
    assert_healed(record)
    assert "4 links carry nothing" in record.observed
    assert record.after["leader"] != record.chosen
    assert record.after["term"] > record.before["term"]
    assert record.figures["first_ack_s"] is not None


def test_a_leader_that_nobody_hears_is_replaced(laboratory: Laboratory) -> None:
    record = laboratory.do("partition-out leader for 2s")
    assert_healed(record)
    assert f"2 links carry nothing (from {record.chosen})" in record.observed
    assert record.after["term"] > record.before["term"]


@pytest.mark.parametrize(
    "text", ["partition halves", "partition bridge", "partition-in follower", "partition follower"]
)
def test_other_partitions_are_observed_and_healed(text: str, laboratory: Laboratory) -> None:
    record = laboratory.do(f"{text} for 500ms")
    assert_healed(record)
    assert "carry nothing" in record.observed


@pytest.mark.parametrize(
    "text",
    [
        "link leader latency=20ms±10ms bandwidth=10MB/s slicer=32",
        "link all jitter=5ms",
        "link follower corrupt=5%",
        "link follower reset=mid",
        "link follower stall",
        "link follower limit_data=2KB",
        "link follower drop",
        "link follower timeout=300ms",
        "link follower reset=300ms",
        "link all drop=5%",
        "link follower duplicate=20% reorder=20%",
    ],
)
def test_toxics_on_peer_links_do_not_stop_the_cluster(text: str, laboratory: Laboratory) -> None:
    record = laboratory.do(f"{text} for 700ms")
    assert_healed(record)
    for toxic in text.split()[2:]:
        assert f"{toxic} acted " in record.observed or f"{toxic}: " in record.observed
    silent = any(toxic.split("=")[0] in ("stall", "timeout") or toxic == "drop" for toxic in text.split())
    assert ("carried nothing for" in record.observed) is silent


@pytest.mark.parametrize("toxic", ["latency=1ms", "drop", "reset=100ms", "duplicate=50%"])
def test_toxics_that_nobody_met_have_no_effect(toxic: str, laboratory: Laboratory) -> None:
    seen = laboratory.harness()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CATALOGUE["link"], "effect_within_s", 0.5)
        patch.setattr(network, "RARE_WITHIN_S", 0.5)
        struck = seen.engine.inject_spec(parse_fault(f"link leader clients {toxic} @0s for 300ms"))
    assert not struck.took_effect
    assert re.fullmatch(rf"no effect was seen on {struck.chosen} \({toxic}\) within 0\.\d s", struck.error)
    wait_until(lambda: not seen.engine.active(), "the fault to be over", OVER_WITHIN_S)
    seen.history.close()


@pytest.mark.parametrize("toxic", ["latency=1ms", "drop", "reset=100ms", "duplicate=50%"])
def test_toxics_that_a_client_met_have_one(toxic: str, laboratory: Laboratory) -> None:
    seen = laboratory.harness()
    led = laboratory.cluster.leader()
    assert led is not None
    ports = [int(address.rpartition(":")[2]) for address in laboratory.cluster.address.split(",")]
    over = threading.Event()
    client = threading.Thread(target=ask_until, args=(ports[led.node - 1], over))
    client.start()
    try:
        struck = seen.engine.inject_spec(parse_fault(f"link n{led.node} clients {toxic} @0s for 300ms"))
    finally:
        over.set()
        client.join()
    assert struck.took_effect, struck
    wait_until(lambda: not seen.engine.active(), "the fault to be over", OVER_WITHIN_S)
    seen.history.close()


def ask_until(port: int, over: threading.Event) -> None:
    """A client that asks again and again over its link."""
    while not over.is_set():
        with contextlib.suppress(KvUnavailable), KvConnection(LOOPBACK, port, 0.2) as connection:
            while not over.is_set():
                connection.status()


@pytest.mark.parametrize("text", ["kill-election leader restart 500ms", "rolling-kill all restart 100ms"])
def test_kills_in_a_sequence(text: str, laboratory: Laboratory) -> None:
    starts = [member.process.starts for member in laboratory.cluster.members]
    record = laboratory.do(text)
    assert_healed(record)
    again = [member.process.starts - before for member, before in zip(laboratory.cluster.members, starts, strict=True)]
    if text.startswith("rolling"):
        assert again == [1, 1, 1]
        assert "were killed and came back in turn" in record.observed
    else:
        assert sorted(again) == [0, 1, 1]
        assert "while nobody led" in record.observed


def test_a_full_disk_stops_the_node_and_room_brings_it_back(laboratory: Laboratory) -> None:
    record = laboratory.do("disk-full leader for 1s")
    assert_healed(record)
    assert "No space left on device" in record.observed


def test_a_slow_disk_is_seen_in_the_log_of_the_node(laboratory: Laboratory) -> None:
    record = laboratory.do("slow-fsync leader delay=20ms for 500ms")
    assert_healed(record)
    assert "waits 20ms more for each fsync" in record.observed


def test_a_log_whose_end_was_cut_off_is_noticed_or_caught_up(laboratory: Laboratory) -> None:
    record = laboratory.do("log-truncate follower restart 200ms")
    assert_healed(record)
    assert "was cut from" in record.observed
    # Whether the lost record held something that the cluster has committed decides between the two.
    assert "started with it and caught up" in record.observed or "which this node acknowledged" in record.observed


def test_a_flipped_bit_is_refused_and_the_node_comes_back_with_its_own_log(laboratory: Laboratory) -> None:
    record = laboratory.do("bit-flip follower restart 200ms")
    assert_healed(record)
    assert "refused the damaged log" in record.observed
    folder = laboratory.cluster.member_of(int(record.chosen[1:])).data_dir.parent
    assert not list(folder.glob("*before-damage"))


def test_a_fault_can_wait_for_requests_in_flight_or_say_that_they_never_came(laboratory: Laboratory) -> None:
    seen = laboratory.harness()
    schedule = build_schedule([parse_fault("pause leader when 1000 in flight for 1s")], 1, None)
    seen.engine.begin(schedule, time.monotonic_ns())
    seen.engine.end_load()
    assert "writes were in flight on the leader before the load ended, and 1000 were asked for" in seen.last(1).error
    seen.history.close()


def test_what_two_faults_put_on_one_link_is_taken_away_one_by_one(laboratory: Laboratory) -> None:
    board = laboratory.board
    name = "n1>n2"
    before = board.counters()[name]["up_swallowed_bytes"]
    board.apply(901, {name: ["up:latency=1ms"]})
    board.apply(902, {name: ["drop"]})
    wait_until(lambda: board.counters()[name]["accepted"], "the link to be used")
    board.withdraw(901)
    board.withdraw(902)
    board.withdraw(902)
    assert board.counters()[name]["up_swallowed_bytes"] >= before
    assert laboratory.cluster.wait_until_all_answer(OVER_WITHIN_S) == []


def test_without_links_a_partition_is_refused_and_leaves_no_record(laboratory: Laboratory, tmp_path: Path) -> None:
    seen = Harness([laboratory.cluster], RunDirectory.create(tmp_path, "run"))
    with pytest.raises(FaultMistake, match="raft has no links of its peers to act on; start it with links"):
        seen.engine.inject_spec(parse_fault("partition leader @0s for 1s"))
    assert seen.written == []


def test_every_kind_says_what_it_does() -> None:
    for name, fault in CATALOGUE.items():
        assert fault.name == name
        assert fault.summary
        assert fault.heal_word in ("restart", "for")
