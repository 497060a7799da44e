"""What a seed decides about a run: sizes, limits, how bad the network and the disks are, and what goes wrong."""

from dataclasses import dataclass, replace
from random import Random

from servers.raft.state_machine import MAX_SESSIONS

MS = 1000
SECOND = 1000 * MS

TICK_US = 10 * MS


@dataclass(frozen=True)
class Profile:
    nodes: int = 3
    clients: int = 3
    keys: int = 2
    # How long things go wrong, and how long a healed cluster may take to serve everybody again.
    trouble_us: int = 2500 * MS
    heal_us: int = 6 * SECOND
    # Between two operations of a client.
    think_us: tuple[int, int] = (0, 40 * MS)
    election_ticks: tuple[int, int] = (12, 24)
    heartbeat_ticks: int = 3
    drop: float = 0.0
    duplicate: float = 0.0
    delay_us: tuple[int, int] = (200, 3 * MS)
    # A few messages take much longer, and so arrive after those sent later.
    late: float = 0.0
    late_us: int = 150 * MS
    disk_us: tuple[int, int] = (100, 4 * MS)
    # Whether the shell applies what is committed before its own disk has it.
    apply_early: bool = True
    snapshot_entries: int = 0  # 0 = never
    keep_entries: int = 0
    max_append_bytes: int = 256 * 1024
    max_inflight_appends: int = 64
    snapshot_chunk_bytes: int = 256 * 1024
    max_uncommitted_entries: int = 4096
    max_sessions: int = MAX_SESSIONS
    # Mean time between two troubles; 0 = none.
    trouble_every_us: int = 150 * MS
    troubles: tuple[str, ...] = ()


CRASHES = ("crash", "crash", "crash leader", "crash all", "restart")
PAUSES = ("pause", "pause leader", "resume")
PARTITIONS = ("isolate leader", "isolate", "one-way", "halves", "heal", "heal")
DISKS = ("slow disk", "disk error", "bit flip")
HANDOVERS = ("transfer",)
# A clock that runs slow is what would make a lease lie.
CLOCKS = ("slow clock", "slow clock of an isolated leader", "good clocks")


def profile_of(seed: int) -> Profile:
    """The seed's own profile: most runs are unkind in several ways at once, a few are only busy."""
    rng = Random(f"profile {seed}")
    kinds = [kind for kind in (CRASHES, PAUSES, PARTITIONS, DISKS, HANDOVERS, CLOCKS) if rng.random() < 0.6]
    return replace(
        Profile(),
        nodes=rng.choices((1, 3, 5), (4, 70, 26))[0],
        clients=rng.randint(2, 4),
        keys=rng.randint(1, 3),
        think_us=(0, rng.choice((5 * MS, 40 * MS, 100 * MS))),
        drop=rng.choice((0.0, 0.02, 0.1, 0.25)),
        duplicate=rng.choice((0.0, 0.05, 0.2)),
        delay_us=(200, rng.choice((1 * MS, 5 * MS, 20 * MS))),
        late=rng.choice((0.0, 0.02, 0.1)),
        late_us=rng.choice((50 * MS, 300 * MS)),
        disk_us=(100, rng.choice((500, 4 * MS, 30 * MS))),
        apply_early=rng.random() < 0.5,
        snapshot_entries=rng.choice((0, 6, 15, 40)),
        keep_entries=rng.choice((0, 3, 10)),
        max_append_bytes=rng.choice((1, 200, 256 * 1024)),
        max_inflight_appends=rng.choice((1, 3, 64)),
        snapshot_chunk_bytes=rng.choice((100, 1000, 256 * 1024)),
        max_uncommitted_entries=rng.choice((2, 4096)),
        trouble_every_us=rng.choice((60 * MS, 150 * MS, 400 * MS)),
        troubles=tuple(trouble for kind in kinds for trouble in kind),
        # With fewer than there are clients, each forgets another one's results.
        max_sessions=rng.choice((1, MAX_SESSIONS, MAX_SESSIONS, MAX_SESSIONS)),
    )
