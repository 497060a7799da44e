"""The key-value state machine: what each write does, that a retry is applied once, and that snapshots lose nothing."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import kv
from protocols.kv import KvReply, KvRequest
from servers.raft.state_machine import KvStateMachine, SnapshotUnreadable
from servers.raft.types import Entry


class Applied:
    """A state machine fed with requests, one index after the other."""

    def __init__(self, **limits: int) -> None:
        self.machine = KvStateMachine(**limits)

    def __call__(self, op: str, key: str = "k", value: kv.Value | None = None, **more: object) -> KvReply:
        data = kv.encode_request(KvRequest(op, key, value, **more))  # type: ignore[arg-type]
        return self.machine.apply(Entry(self.machine.applied_index + 1, 1, data))

    def read(self, key: str = "k") -> KvReply:
        return self.machine.read(key)


def test_put_then_get_names_the_version_that_wrote_it() -> None:
    apply = Applied()
    assert apply(kv.PUT, value="a") == KvReply(kv.OK, version=1)
    assert apply(kv.PUT, value=b"b") == KvReply(kv.OK, version=2)
    assert apply.read() == KvReply(kv.OK, b"b", 2)
    assert apply.read("other") == KvReply(kv.NOT_FOUND)


def test_append_begins_at_an_absent_key_and_grows_the_value() -> None:
    apply = Applied()
    assert apply(kv.APPEND, value="7,").result == kv.OK
    assert apply(kv.APPEND, value="8,").version == 2
    assert apply.read() == KvReply(kv.OK, "7,8,", 2)
    apply(kv.DELETE)
    apply(kv.APPEND, value="9,")
    assert apply.read() == KvReply(kv.OK, "9,", 4)


def test_append_of_the_other_kind_of_value_is_refused_and_changes_nothing() -> None:
    apply = Applied()
    apply(kv.PUT, value="text")
    assert apply(kv.APPEND, value=b"bytes").result == kv.ERROR
    assert apply.read() == KvReply(kv.OK, "text", 1)


def test_append_beyond_the_largest_value_is_refused_and_changes_nothing() -> None:
    apply = Applied()
    apply(kv.PUT, value="x" * kv.MAX_VALUE_BYTES)
    assert apply(kv.APPEND, value="").result == kv.OK
    assert apply(kv.APPEND, value="y").result == kv.ERROR
    assert apply(kv.PUT, value="ü" * (kv.MAX_VALUE_BYTES // 2)).result == kv.OK
    assert apply(kv.APPEND, value="y").result == kv.ERROR
    assert apply.read().version == 4


def test_cas_writes_when_the_value_is_as_expected_and_says_what_it_saw_otherwise() -> None:
    apply = Applied()
    assert apply(kv.CAS, value="a", expect="b") == KvReply(kv.CAS_FAILED)
    assert apply(kv.CAS, value="a", expect=None) == KvReply(kv.OK, version=2)
    assert apply(kv.CAS, value="b", expect=None) == KvReply(kv.CAS_FAILED, "a", 2)
    assert apply(kv.CAS, value="b", expect=b"a") == KvReply(kv.CAS_FAILED, "a", 2)
    assert apply(kv.CAS, value="b", expect="a") == KvReply(kv.OK, version=5)
    apply(kv.DELETE)
    assert apply(kv.CAS, value="c", expect="b") == KvReply(kv.CAS_FAILED, None, 6)
    assert apply(kv.CAS, value="c", expect=None).result == kv.OK


def test_a_read_of_a_deleted_key_names_the_delete_it_saw() -> None:
    apply = Applied()
    apply(kv.PUT, value="a")
    assert apply(kv.DELETE) == KvReply(kv.OK, version=2)
    assert apply.read() == KvReply(kv.NOT_FOUND, version=2)
    assert apply(kv.DELETE) == KvReply(kv.OK, version=3)


def test_a_retry_is_applied_once_and_told_the_first_result() -> None:
    apply = Applied()
    assert apply(kv.APPEND, value="1,", client_id=7, seq=1) == KvReply(kv.OK, version=1)
    assert apply(kv.APPEND, value="1,", client_id=7, seq=1) == KvReply(kv.OK, version=1, replayed=True)
    assert apply.read() == KvReply(kv.OK, "1,", 1)
    assert apply(kv.APPEND, value="2,", client_id=7, seq=2).replayed is False
    assert apply.read().value == "1,2,"


def test_the_same_seq_of_another_client_is_another_write() -> None:
    apply = Applied()
    apply(kv.APPEND, value="1,", client_id=7, seq=1)
    apply(kv.APPEND, value="1,", client_id=8, seq=1)
    assert apply.read().value == "1,1,"


def test_a_failed_cas_stays_failed_when_retried() -> None:
    """Had it been executed again it would succeed, and the client would hear two answers to one request."""
    apply = Applied()
    apply(kv.PUT, value="a")
    assert apply(kv.CAS, value="c", expect="b", client_id=7, seq=1).result == kv.CAS_FAILED
    apply(kv.PUT, value="b")
    assert apply(kv.CAS, value="c", expect="b", client_id=7, seq=1) == KvReply(kv.CAS_FAILED, "a", 1, replayed=True)
    assert apply.read().value == "b"


def test_a_write_without_a_session_is_applied_as_often_as_it_comes() -> None:
    apply = Applied()
    apply(kv.APPEND, value="x")
    apply(kv.APPEND, value="x")
    assert apply.read().value == "xx"


def test_several_writes_of_one_client_on_their_way_each_keep_their_result() -> None:
    apply = Applied(results_per_session=4)
    for seq in range(1, 5):
        apply(kv.APPEND, value=f"{seq},", client_id=7, seq=seq)
    for seq in range(1, 5):
        assert apply(kv.APPEND, value=f"{seq},", client_id=7, seq=seq) == KvReply(kv.OK, version=seq, replayed=True)
    assert apply.read().value == "1,2,3,4,"


def test_a_seq_below_the_highest_is_never_applied_and_never_answered_with_anothers_result() -> None:
    apply = Applied(results_per_session=4)
    for seq in (10, 20, 23):
        apply(kv.APPEND, value=f"{seq},", client_id=7, seq=seq)
    assert apply(kv.APPEND, value="22,", client_id=7, seq=22).result == kv.ERROR  # overtaken: surely not applied
    assert apply(kv.APPEND, value="10,", client_id=7, seq=10).result == kv.UNKNOWN  # its result is forgotten
    assert apply(kv.APPEND, value="5,", client_id=7, seq=5).result == kv.UNKNOWN
    assert apply(kv.APPEND, value="20,", client_id=7, seq=20) == KvReply(kv.OK, version=2, replayed=True)
    assert apply.read().value == "10,20,23,"


def test_a_retry_that_comes_after_its_result_was_forgotten_is_not_applied_again() -> None:
    apply = Applied(max_sessions=1)
    apply(kv.APPEND, value="5,", client_id=7, seq=5)
    apply(kv.PUT, "other", "x", client_id=8, seq=1)  # the result of client 7 is forgotten
    assert apply(kv.APPEND, value="5,", client_id=7, seq=5).result == kv.UNKNOWN
    assert apply(kv.APPEND, value="4,", client_id=7, seq=4).result == kv.UNKNOWN
    assert apply.read().value == "5,"


def test_a_session_that_began_anew_does_not_judge_what_it_cannot_know() -> None:
    apply = Applied(max_sessions=1)
    apply(kv.APPEND, value="5,", client_id=7, seq=5)
    apply(kv.PUT, "other", "x", client_id=8, seq=1)  # the result of client 7 is forgotten
    assert apply(kv.APPEND, value="8,", client_id=7, seq=8).result == kv.OK
    assert apply(kv.APPEND, value="5,", client_id=7, seq=5).result == kv.UNKNOWN
    assert apply(kv.APPEND, value="7,", client_id=7, seq=7).result == kv.ERROR  # overtaken: surely not applied
    assert apply(kv.APPEND, value="8,", client_id=7, seq=8).replayed
    assert apply.read().value == "5,8,"


def test_when_too_many_clients_are_known_new_ones_are_refused_and_old_ones_served() -> None:
    apply = Applied(max_sessions=1, max_clients=2)
    for client_id in (1, 2):
        apply(kv.APPEND, value=f"{client_id},", client_id=client_id, seq=1)
    for _ in range(2):
        refused = apply(kv.APPEND, value="3,", client_id=3, seq=1)
        assert (refused.result, refused.error) == (kv.ERROR, "2 clients are known, no more are taken: reuse client ids")
    assert apply(kv.APPEND, value="1,", client_id=1, seq=1).result == kv.UNKNOWN
    assert apply(kv.APPEND, value="1,", client_id=1, seq=2).result == kv.OK
    assert apply(kv.APPEND, value="free,").result == kv.OK
    assert apply.read().value == "1,2,1,free,"
    assert (apply.machine.sessions, apply.machine.clients) == (1, 2)


def test_the_longest_silent_client_is_forgotten_first() -> None:
    apply = Applied(max_sessions=2)
    apply(kv.APPEND, value="a", client_id=1, seq=1)
    apply(kv.APPEND, value="b", client_id=2, seq=1)
    apply(kv.APPEND, value="a", client_id=1, seq=1)  # a retry counts as a sign of life
    apply(kv.APPEND, value="c", client_id=3, seq=1)
    assert apply.machine.sessions == 2
    assert apply(kv.APPEND, value="a", client_id=1, seq=1).replayed
    assert apply(kv.APPEND, value="b", client_id=2, seq=1).result == kv.UNKNOWN
    assert apply.read().value == "abc"


def test_entries_that_are_no_writes_are_the_same_harmless_thing_everywhere() -> None:
    machine = KvStateMachine()
    assert machine.apply(Entry(1, 1, b"")).result == kv.OK
    assert machine.apply(Entry(2, 1, b"\xc1 no msgpack")).result == kv.ERROR
    assert machine.apply(Entry(3, 1, kv.encode_request(KvRequest(kv.GET, "k")))).result == kv.ERROR
    assert (machine.applied_index, machine.keys) == (3, 0)


def test_an_entry_out_of_order_is_a_bug_and_not_applied() -> None:
    machine = KvStateMachine()
    with pytest.raises(ValueError, match="entry 2 cannot be applied after 0"):
        machine.apply(Entry(2, 1, b""))
    assert machine.applied_index == 0


keys = st.sampled_from(["a", "b", "c"])
values = st.sampled_from(["", "1,", "2,", b"\x00", b"xyz"])
requests = st.builds(
    lambda op, key, value, expect, session: KvRequest(op, key, value, expect, *session),
    st.sampled_from(sorted(kv.WRITES)),
    keys,
    values,
    st.none() | values,
    st.just((None, None)) | st.tuples(st.integers(1, 4), st.integers(1, 6)),
)


def entry_of(index: int, request: KvRequest) -> Entry:
    return Entry(index, 1, kv.encode_request(request._replace(value=None) if request.op == kv.DELETE else request))


@settings(deadline=None)
@given(st.lists(requests, max_size=40), st.integers(0, 40))
def test_a_node_restored_from_a_snapshot_answers_like_one_that_saw_everything(
    history: list[KvRequest], cut: int
) -> None:
    limits = {"max_sessions": 2, "results_per_session": 2, "max_clients": 3}
    whole, restored = KvStateMachine(**limits), KvStateMachine(**limits)
    snapshot = whole.snapshot()
    for index, request in enumerate(history, 1):
        whole.apply(entry_of(index, request))
        if index == cut:
            snapshot = whole.snapshot()
    restored.restore(snapshot)
    assert restored.snapshot() == snapshot
    second = KvStateMachine(**limits)
    second.restore(snapshot)
    for index, request in enumerate(history, 1):
        if index > restored.applied_index:
            assert restored.apply(entry_of(index, request)) == second.apply(entry_of(index, request))
    assert restored.digest() == whole.digest()
    assert [restored.read(key) for key in "abc"] == [whole.read(key) for key in "abc"]


@settings(deadline=None)
@given(st.lists(requests, max_size=30))
def test_every_entry_delivered_twice_by_its_client_changes_nothing(history: list[KvRequest]) -> None:
    """Sessions: a client that retries each of its writes once leaves the same values as one that never retries."""
    once, twice = Applied(), Applied()
    last: dict[int, int] = {}
    for request in history:
        client = request.client_id or 9
        last[client] = last.get(client, 0) + 1
        write = request._replace(client_id=client, seq=last[client])
        first = once.machine.apply(entry_of(once.machine.applied_index + 1, write))
        for copy in range(2):
            reply = twice.machine.apply(entry_of(twice.machine.applied_index + 1, write))
            assert (reply.result, reply.value) == (first.result, first.value)
            assert reply.replayed == (copy == 1)
    assert [(key, value) for key, value, _ in once.machine.items()] == [
        (key, value) for key, value, _ in twice.machine.items()
    ]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", msgpack.packb([]), msgpack.packb([2, 0, [], []]), msgpack.packb([1, 0, [[1]], []]), b"\x94\x01"],
)
def test_a_snapshot_that_is_none_is_refused_and_leaves_the_state(data: bytes) -> None:
    apply = Applied()
    apply(kv.PUT, value="a")
    with pytest.raises(SnapshotUnreadable):
        apply.machine.restore(data)
    assert apply.read() == KvReply(kv.OK, "a", 1)


def test_states_that_differ_in_sessions_alone_have_different_digests() -> None:
    """Forgetting the session table in snapshots would not show in any key."""
    with_session, without = Applied(), Applied()
    with_session(kv.PUT, value="a", client_id=1, seq=1)
    without(kv.PUT, value="a")
    assert with_session.machine.items() == without.machine.items()
    assert with_session.machine.digest() != without.machine.digest()


def test_a_frozen_state_does_not_see_what_is_applied_while_it_is_packed() -> None:
    apply = Applied()
    for number in range(2500):  # several parts
        apply(kv.PUT, f"k{number}", "before", client_id=number, seq=1)
    before = apply.machine.snapshot()
    parts = apply.machine.freeze()
    packed = [next(parts)]
    for number in range(2500):
        apply(kv.DELETE, f"k{number}", client_id=number, seq=2)
    packed += parts
    assert len(packed) > 3
    assert b"".join(packed) == before
    assert apply.machine.snapshot() != before
