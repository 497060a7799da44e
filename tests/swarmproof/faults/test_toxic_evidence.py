"""A toxic took effect when it did something to somebody: each kind, and its twin on traffic that it did not touch."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from swarmproof.faults import network
from swarmproof.faults.catalogue import CATALOGUE
from swarmproof.faults.fault import CLIENT_LINKS, PEER_LINKS, NoEffect, Strike
from swarmproof.faults.selection import Choice

FAULT = CATALOGUE["link"]


class FakeMember:
    def __init__(self, name: str) -> None:
        self.name = name


class FakeCluster:
    kind = "raft"

    def __init__(self) -> None:
        self.members = [FakeMember(f"n{number}") for number in (1, 2, 3)]


class FakeBoard:
    """Links whose counters a test turns."""

    def __init__(self, names: Sequence[str], framed: bool) -> None:
        self.names = set(names)
        self.framed = set(names) if framed else set()
        self.applied: Mapping[str, Sequence[str]] = {}
        self.count: dict[str, dict[str, int]] = {name: {"up_bytes": 0, "down_bytes": 0} for name in names}

    def apply(self, owner: int, toxics: Mapping[str, Sequence[str]]) -> None:
        self.applied = toxics

    def withdraw(self, owner: int) -> None:
        self.applied = {}

    def counters(self) -> dict[str, dict[str, int]]:
        return {name: dict(count) for name, count in self.count.items()}

    def add(self, **more: int) -> None:
        """To the first link."""
        first = self.count[min(self.count)]
        for name, count in more.items():
            first[name] = first.get(name, 0) + count


def struck(*toxics: str, links: str = CLIENT_LINKS, framed: bool = True) -> tuple[Strike, FakeBoard]:
    cluster: Any = FakeCluster()
    names = ["clients>n2"] if links == CLIENT_LINKS else ["n1>n2", "n2>n1", "n2>n3", "n3>n2"]
    board: Any = FakeBoard([*names, "clients>n1", "n1>n3"], framed)
    choice = Choice([cluster.members[1]], "by name", cluster)
    strike = Strike(1, choice, {}, toxics, links, 1.0, random.Random(1), board, [])
    FAULT.begin(strike)
    assert set(board.applied) == set(names)
    board.count = {name: board.count[name] for name in names}
    return strike, board


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SILENT_FOR_S", 0.0)


def seen(strike: Strike) -> list[str | None]:
    FAULT.evidence(strike)  # the first look of those that wait for silence
    return list(FAULT.evidence(strike))


TRAFFIC = {"up_bytes": 1000, "down_bytes": 1000, "accepted": 3, "connections": 3, "changed": 2, "resets": 1}


@pytest.mark.parametrize(
    ("toxic", "hit", "words"),
    [
        ("latency=5ms", {"down_latency_hits": 7}, "latency=5ms acted 7 times on 1 of 1 link"),
        ("corrupt=1%", {"down_corrupt_hits": 1}, "corrupt=1% acted once"),
        ("up:slicer=64", {"up_slicer_hits": 2}, "up:slicer=64 acted 2 times"),
        ("limit_data=1KB", {"down_limit_data_hits": 1}, "limit_data=1KB acted"),
        ("duplicate=5%", {"down_duplicate_hits": 1}, "duplicate=5% acted"),
        ("drop=5%", {"down_drop_hits": 1}, "drop=5% acted"),
        ("reset=4s", {"up_reset_hits": 1, "down_reset_hits": 1}, "reset=4s acted once"),
        ("reset=mid", {"down_reset_hits": 1}, "reset=mid acted"),
    ],
)
def test_traffic_alone_is_no_effect_of_a_toxic(toxic: str, hit: dict[str, int], words: str) -> None:
    strike, board = struck(toxic)
    board.add(**TRAFFIC)
    assert seen(strike) == [None]
    assert FAULT.unseen(strike, [None]) == f"n2 ({toxic})"
    board.add(**hit)
    (text,) = seen(strike)
    assert text is not None
    assert text.startswith(words)


@pytest.mark.parametrize("toxic", ["drop", "stall", "timeout=5s"])
def test_silence_is_an_effect_only_when_somebody_was_silenced(toxic: str) -> None:
    strike, board = struck(toxic)
    assert seen(strike) == [None], "nobody said anything"
    board.add(**{f"up_{toxic.partition('=')[0]}_hits": 1})
    assert seen(strike) == [f"{toxic}: 1 link carried nothing for 0 s"]
    board.add(up_bytes=1)
    assert FAULT.evidence(strike) == [None], "something was carried after all"


def test_one_direction_may_carry_while_the_other_is_lost() -> None:
    strike, board = struck("down:drop")
    FAULT.evidence(strike)
    board.add(up_bytes=100, down_drop_hits=1)
    assert seen(strike) == ["down:drop: 1 link carried nothing for 0 s"]


def test_each_of_several_toxics_must_have_acted() -> None:
    strike, board = struck("latency=5ms", "corrupt=1%")
    board.add(down_latency_hits=1)
    assert [text is None for text in seen(strike)] == [False, True]
    assert FAULT.unseen(strike, []) == "n2 (corrupt=1%)"
    board.add(down_corrupt_hits=1)
    assert all(seen(strike))


def test_when_it_is_healed_it_says_how_often_it_acted_in_all() -> None:
    strike, board = struck("latency=5ms", "corrupt=1%")
    board.add(down_latency_hits=1)
    seen(strike)
    board.add(down_latency_hits=56)
    assert FAULT.end(strike) == "; in all latency=5ms 57 times"
    assert board.applied == {}


def test_what_others_make_impossible_is_not_waited_for() -> None:
    strike, board = struck("latency=5ms", "drop", "up:jitter=1ms")
    board.add(up_drop_hits=1)
    assert seen(strike) == ["drop: 1 link carried nothing for 0 s"]
    strike, board = struck("latency=5ms", "reset")
    board.add(up_reset_hits=1, down_reset_hits=1)
    assert len(seen(strike)) == 1
    assert all(seen(strike))


def test_toxics_between_nodes_are_about_what_the_dialling_node_sends() -> None:
    strike, board = struck("latency=5ms", links=PEER_LINKS)
    assert board.applied["n1>n2"] == ["up:latency=5ms"]
    board.add(down_latency_hits=1)
    assert seen(strike) == [None]
    board.add(up_latency_hits=1)
    assert seen(strike) == ["latency=5ms acted once on 1 of 4 links"]


@pytest.mark.parametrize("toxic", ["duplicate=50%", "reorder=5%", "swap=5%", "drop=5%"])
def test_toxics_of_frames_are_refused_where_there_are_none(toxic: str) -> None:
    with pytest.raises(NoEffect, match="the link clients>n2 does not carry length-prefixed frames"):
        struck(toxic, framed=False)
    struck(toxic, framed=True)
    struck("drop", framed=False)


def test_what_is_rare_or_comes_later_may_take_longer_to_be_seen() -> None:
    assert FAULT.window_s(struck("latency=5ms")[0]) == FAULT.effect_within_s
    assert FAULT.window_s(struck("reset=4s")[0]) == FAULT.effect_within_s + 4
    assert FAULT.window_s(struck("corrupt=1%")[0]) == network.RARE_WITHIN_S
