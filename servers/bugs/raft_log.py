"""Raft built wrong where writes are replicated, applied and recovered."""

import os
import sys
import time
from typing import Any, Final, NoReturn

from protocols.kv import APPEND, OK, KvReply, KvRequest
from protocols.raft_messages import PeerMessage
from servers.log_lines import log
from servers.raft.core import Core
from servers.raft.node import RaftNode
from servers.raft.state_machine import KvStateMachine
from servers.raft.types import Entry, InvariantBroken, Role

# A node that stood still for longer than this hears its clients before its peers for a while, like a server whose
# network threads wake up one by one.
STOOD_STILL_S: Final = 0.3
DEAF_S: Final = 0.15
# A leader that replicates when it has time: every 150 ms, well below an election timeout.
REPLICATES_EVERY_TICKS: Final = 15
# Of the appends that a restarted node replays, one in so many is left out.
SKIP_EVERY: Final = 20
# A token of the workload with its comma.
TOKEN_CHARS: Final = 17


class CommitsAlone(Core):
    """The leader needs nobody: what is on its own disk counts as committed."""

    def _maybe_commit(self) -> None:
        index = self.log.stable
        before = self.commit_index
        if index > before and self._may_commit(index):
            self._advance_commit(index)
            freed = sum(len(entry.data) for entry in self.log.between(before + 1, index))
            self._uncommitted_bytes = max(0, self._uncommitted_bytes - freed)


class ReplicatesLater(CommitsAlone):
    """... and the others get the entries only now and then."""

    _due = 0

    def tick(self) -> None:
        super().tick()
        if self.role is Role.LEADER and self.now >= self._due:
            self._dirty = True

    def _flush_appends(self) -> None:
        if self.now >= self._due:
            self._due = self.now + REPLICATES_EVERY_TICKS
            super()._flush_appends()


class AcksBeforeReplication(RaftNode):
    """A write is acknowledged before another node has it: a leader that dies takes it along."""

    core_class = ReplicatesLater


class DeafAfterPause(RaftNode):
    """A node that stood still drops what its peers said meanwhile, and goes on as what it was."""

    _deaf_until_s = 0.0

    def on_message(self, message: PeerMessage) -> None:
        if self._is_deaf():
            return
        super().on_message(message)

    def on_request(self, *arguments: Any) -> None:
        self._is_deaf()
        super().on_request(*arguments)

    def _on_timer(self) -> None:
        self._is_deaf()
        super()._on_timer()

    def _is_deaf(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._next_tick_s > STOOD_STILL_S and now_s > self._deaf_until_s:
            self._deaf_until_s = now_s + DEAF_S
        return now_s < self._deaf_until_s


class ReadsWithoutQuorum(Core):
    """The leader believes that it still leads, without asking."""

    def _round_confirmed(self, read_round: int) -> bool:
        return True


class StaleLeaderRead(DeafAfterPause):
    """A leader that was paused and replaced answers reads from what it had."""

    core_class = ReadsWithoutQuorum


class NeverSteppedDown(CommitsAlone):
    """What was committed alone cannot be taken back in place: whoever is deposed has to start again."""

    def become_follower(self, term: int, leader: int) -> None:
        if self.role is Role.LEADER:
            raise InvariantBroken(f"deposed by term {term}, with writes of term {self.term} that only this node has")
        super().become_follower(term, leader)


class SplitBrain(DeafAfterPause):
    """A leader that was paused and replaced goes on accepting writes, by itself.

    When it learns what it has done it restarts, as its service manager would have it: its peers' log wins.
    """

    core_class = NeverSteppedDown

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("on_failure", _restart)
        super().__init__(*arguments, **options)


def _restart(reason: str) -> NoReturn:
    log.error("node_restarts", reason=reason)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class ForgetsSessionsInFailover(KvStateMachine):
    """What a client's last writes were is forgotten with each new leader: its retry is applied again."""

    _term = 0

    def apply(self, entry: Entry, request: KvRequest | None = None) -> KvReply:
        if entry.term != self._term:
            self._term = entry.term
            self._sessions.clear()
        return super().apply(entry, request)


class AppliedTwice(RaftNode):
    """A retry is applied twice when the acknowledgement was lost in a failover."""

    machine_class = ForgetsSessionsInFailover


class SkipsInReplay(KvStateMachine):
    replay_ends = 0

    def _write(self, request: KvRequest, index: int) -> KvReply:
        if index <= self.replay_ends and request.op == APPEND and index % SKIP_EVERY == 0:
            return KvReply(OK, None, index)
        return super()._write(request, index)


class DivergedReplay(RaftNode):
    """A restarted node leaves entries out when it replays its log: wrong at this node alone."""

    machine_class = SkipsInReplay

    def __init__(self, options: Any, config: Any, opened: Any, **more: Any) -> None:
        super().__init__(options, config, opened, **more)
        entries = opened[3]
        if entries:
            self.machine.replay_ends = entries[-1].index  # type: ignore[attr-defined]


class CutsRestoredLists(KvStateMachine):
    def restore(self, data: bytes) -> None:
        super().restore(data)
        for key, (value, version) in self._keys.items():
            if isinstance(value, str) and value.endswith(","):
                self._keys[key] = (value[:-TOKEN_CHARS], version)


class DivergedSnapshot(RaftNode):
    """A node that starts from a snapshot loses the last append of each list: wrong at this node alone."""

    machine_class = CutsRestoredLists
