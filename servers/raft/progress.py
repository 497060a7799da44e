"""What the leader knows of one follower, and how much it may send to it.

Three states, as in etcd-io/raft: PROBE sends one Append and waits for the answer, because it does not know where
the logs agree; REPLICATE sends ahead, up to a bounded number of unanswered Appends; SNAPSHOT sends chunks one
by one, because the entries the follower needs are trimmed.

How far ahead is a window that starts at one Append after every probe and doubles with every acknowledgement. Without
it, a link that reorders makes a storm: every refusal starts a probe, every answered probe a full window, and every
Append that overtook another is refused again.
"""

from collections import deque

from servers.raft.types import PeerStatus, Snapshot

PROBE = 0
REPLICATE = 1
SNAPSHOT = 2

# Growth stops here; CoreConfig.max_inflight_appends is the limit that counts.
MAX_WINDOW = 1 << 16

STATE_NAMES = ("probe", "replicate", "snapshot")


class Progress:
    __slots__ = (
        "answered",
        "commit_sent",
        "fell_back_to",
        "heard_at",
        "inflight",
        "match",
        "next",
        "node_id",
        "offset",
        "paused",
        "round",
        "snapshot",
        "state",
        "window",
    )

    def __init__(self, node_id: int, next_index: int, now: int) -> None:
        self.node_id = node_id
        self.state = PROBE
        self.match = 0
        self.next = next_index
        self.paused = False
        # How many Appends may be unanswered; the configuration bounds it too.
        self.window = 1
        # Last index of each unanswered Append.
        self.inflight: deque[int] = deque()
        self.commit_sent = 0
        self.round = 0
        self.heard_at = now
        # Whether anything was acknowledged since the last heartbeat; if not, something may be lost.
        self.answered = True
        self.snapshot: Snapshot | None = None
        # Bytes of it that are acknowledged; and what the follower said of fewer since, or -1.
        self.offset = 0
        self.fell_back_to = -1

    def become_probe(self, next_index: int) -> None:
        self.state = PROBE
        self.next = max(next_index, self.match + 1)
        self.window = 1
        self.paused = False
        self.inflight.clear()
        self.snapshot = None

    def become_replicate(self) -> None:
        self.state = REPLICATE
        self.next = self.match + 1
        self.paused = False
        self.inflight.clear()
        self.snapshot = None

    def become_snapshot(self, snapshot: Snapshot) -> None:
        self.state = SNAPSHOT
        self.snapshot = snapshot
        self.offset = 0
        self.fell_back_to = -1
        self.paused = False
        self.inflight.clear()

    def acknowledged(self, index: int) -> bool:
        """Everything up to ``index`` matches and is durable there. False if that was known already."""
        self.answered = True
        self.paused = False
        inflight = self.inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        if self.window < MAX_WINDOW:
            self.window *= 2
        return True

    def status(self, now: int) -> PeerStatus:
        return PeerStatus(
            self.node_id, STATE_NAMES[self.state], self.match, self.next, len(self.inflight), now - self.heard_at
        )
