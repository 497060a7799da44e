"""The final read: after healing, every key of the history is read at every node, and the answers join the history.

Without it no write could be called lost, and a replica that diverged would stay unseen.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

from protocols.kv import GET, UNKNOWN, KvReply, KvRequest
from records.operations import read_operations
from records.run_directory import RunDirectory
from swarmproof.history import FINAL_READ_CLIENT, SupervisorHistory
from swarmproof.targets.cluster import ClusterMember, ClusterTarget
from swarmproof.targets.kv_client import TRY_AGAIN, KvConnection, KvUnavailable
from swarmproof.targets.process import State

# For all keys of one node together; 10,000 keys take about 2 s.
READ_WITHIN_S = 60.0
REPLY_WITHIN_S = 5.0
RETRY_AFTER_S = 0.05


def keys_of(run: RunDirectory) -> list[str]:
    """Every key that any operation of the run touched, sorted. Errors: HistoryError."""
    return sorted({operation.key for operation in read_operations(run)})


def read_everything(
    cluster: ClusterTarget, keys: Sequence[str], history: SupervisorHistory, within_s: float = READ_WITHIN_S
) -> dict[str, Any]:
    """Read `keys` at all nodes at the same time; {"keys": N, "nodes": {"n1": answered, ...}}. Never raises."""
    answered = {member.name: 0 for member in cluster.members}  # also of one whose reading ends in an error

    def read(member: ClusterMember) -> None:
        answered[member.name] = _read_at(member, keys, history, within_s)

    threads = [threading.Thread(target=read, args=(member,), daemon=True) for member in cluster.members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history.flush()
    return {"keys": len(keys), "nodes": dict(sorted(answered.items()))}


def _read_at(member: ClusterMember, keys: Sequence[str], history: SupervisorHistory, within_s: float) -> int:
    """How many keys this node answered for."""
    left = list(keys)
    deadline = time.monotonic() + within_s
    with member.connect(REPLY_WITHIN_S) as connection:
        # After the heal nobody starts a node again: of one that has ended nothing more is to be expected.
        while left and time.monotonic() < deadline and member.process.state is not State.EXITED:
            unanswered = _read_once(connection, member, left, history)
            if unanswered:
                time.sleep(RETRY_AFTER_S)  # an election, or a connection that was lost: ask again for these
            left = unanswered
    # Also what could never be sent is told, as refused: else nothing in the history asked this node.
    for key in left:
        identity = history.invoke(
            FINAL_READ_CLIENT + member.node_id, KvRequest(GET, key), node=member.node_id, final=True
        )
        history.complete(identity, KvReply(UNKNOWN), node=member.node_id)
    return len(keys) - len(left)


def _read_once(
    connection: KvConnection, member: ClusterMember, keys: Sequence[str], history: SupervisorHistory
) -> list[str]:
    """Ask for all `keys`; those without an answer."""
    requests = [KvRequest(GET, key) for key in keys]
    open_operations: dict[int, int] = {}

    def on_send(position: int) -> None:
        open_operations[position] = history.invoke(
            FINAL_READ_CLIENT + member.node_id, requests[position], node=member.node_id, final=True
        )

    def complete(position: int, reply: KvReply | None) -> None:
        history.complete(open_operations.pop(position), reply, node=member.node_id)

    unanswered: list[str] = []
    done = set()
    try:
        for position, reply in connection.call_many(requests, on_send=on_send):
            again = reply.result in TRY_AGAIN
            complete(position, None if again else reply)
            done.add(position)
            if again:
                unanswered.append(keys[position])
    except KvUnavailable:
        pass
    for position in list(open_operations):
        complete(position, None)
    unanswered += [key for position, key in enumerate(keys) if position not in done]
    return unanswered
