"""The moment at which a store compacts its log: its new dump is in place, its journal is not yet cut.

Stores write the dump under another name and rename it, so the moment shows from outside as a new inode.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from swarmproof.targets.base import Member

# Where the stores here keep their dumps: PySyncObj, our own nodes, etcd; below the node's data directory.
DUMPS = ("dump", "snapshot*", "member/snap/*.snap")
UNFINISHED = ".tmp"
# Under any load worth the name a node compacts more often, or its threshold is set too high for the fault.
COMPACTS_WITHIN_S = 20.0
# How long the moment lasts: until the node's next turn, in which it sees that the dump is written.
MOMENT_S = 0.004
LOOK_AGAIN_S = 0.0002


def wait_for_compaction(members: Sequence[Member], within_s: float = COMPACTS_WITHIN_S) -> list[str]:
    """Wait until a majority of `members` has put a new dump in place within one moment; their names, or none.

    Nodes that follow one log reach their thresholds together. One node alone would only be a slow follower afterwards.
    """
    directories = {member.name: member.process.directory / "data" for member in members}
    known = {name: _dumps(directory) for name, directory in directories.items()}
    changed = dict.fromkeys(directories, float("-inf"))
    deadline = time.monotonic() + within_s
    while (now := time.monotonic()) < deadline:
        for name, directory in directories.items():
            dumps = _dumps(directory)
            if dumps - known[name]:
                changed[name] = now
            known[name] = dumps
        inside = [name for name, at in changed.items() if now - at <= MOMENT_S]
        if len(inside) > len(members) // 2:
            return inside
        time.sleep(LOOK_AGAIN_S)
    return []


def _dumps(directory: Path) -> set[tuple[str, int]]:
    found = set()
    for pattern in DUMPS:
        for path in directory.glob(pattern):
            try:
                if not path.name.endswith(UNFINISHED):
                    found.add((path.name, path.stat().st_ino))
            except OSError:
                continue  # renamed or removed between the two calls
    return found
