"""Faults of a node's disk: full, slow, cut short or flipped while the node is down.

Full and slow act through a file that the node was told to obey (`servers.raft --disk-faults FILE`): the error is the
real one, ENOSPC from the write, at every file the log uses; what it cannot show is a file system that misbehaves in
other ways. Truncation and bit flips change the log of a node that was killed. SIGKILL alone loses nothing that was
written, since the page cache outlives the process: cutting the tail stands in for what a power failure would lose.
A node that forgets what it acknowledged is outside of what Raft promises, so it is done to a follower, whose entries
the others have; a node that notices that it forgot, or that a bit is wrong, must refuse to go on. Healing then gives
it back its log as it was.
"""

import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from swarmproof.durations import parse_duration_s, show_s
from swarmproof.faults.fault import Fault, NoEffect, Strike, names_of, not_running, signal_to
from swarmproof.targets.base import Member
from swarmproof.targets.cluster import ClusterMember
from swarmproof.targets.errors import TargetError
from swarmproof.targets.process import KILL_WITHIN_S, State
from swarmproof.targets.raft import DISK_FAULTS_NAME

SAVED_SUFFIX = ".before-damage"
DEFAULT_DELAY = "200ms"
MAX_DELAY_S = 3600.0
MAX_CUT_BYTES = 1 << 40
# Enough to reach into the last record, not more: it may hold a single entry of some bytes.
DEFAULT_CUT_BYTES = 7
# Behind the header record, so that the flip hits entries; well before the end, which may be a torn write.
FLIP_AT_SHARE = 0.5
REFUSED_WITHIN_S = 20.0
# A node that runs for so long has heard from its leader, and lives with what it has.
SETTLED_AFTER_S = 2.0
_SLOW_SYNC = re.compile(r"WARNING disk_fault ")


def read_delay_s(text: str) -> float:
    """Seconds. Errors: ValueError."""
    delay_s = parse_duration_s(text)
    if not 0 < delay_s <= MAX_DELAY_S:
        raise ValueError(f"it must be above 0 and at most {show_s(MAX_DELAY_S)}")
    return delay_s


def read_cut_bytes(text: str) -> int:
    """Errors: ValueError."""
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text[:20]) <= MAX_CUT_BYTES:
        raise ValueError(f"{text!r} is not a number of bytes from 1 to {MAX_CUT_BYTES}")
    return int(text)


class _OnDisk(Fault):
    kinds: ClassVar[Sequence[str]] = ("raft",)
    selectors: ClassVar[Sequence[str]] = ("leader", "follower", "node")
    effect_within_s = 15.0


class DiskFull(_OnDisk):
    name = "disk-full"
    summary = "every write of the node fails with ENOSPC; it must stop rather than acknowledge, and come back with room"
    heal_word = "for"

    def strike(self, victim: Member) -> None:
        if victim.process.pid is None:
            raise NoEffect(not_running(victim))
        victim.process.expect_end()
        _control_file(victim).write_text("full\n")

    def observed(self, victim: Member) -> str | None:
        if victim.process.state is not State.EXITED:
            return None
        said = next((line for line in reversed(victim.process.last_lines(20)) if "No space left" in line), None)
        return f"{victim.name} stopped: it {victim.process.describe_end()} ({said})" if said else None

    def heal(self, victim: Member) -> None:
        _control_file(victim).unlink(missing_ok=True)
        if victim.process.state is State.EXITED:
            victim.start()
        else:
            victim.process.expect_end(False)


class SlowFsync(_OnDisk):
    name = "slow-fsync"
    summary = "every fsync of the node takes longer"
    heal_word = "for"
    options: ClassVar[Mapping[str, str]] = {"delay": DEFAULT_DELAY}
    readers: ClassVar[Mapping[str, Callable[[str], object]]] = {"delay": read_delay_s}
    silences = False

    def begin(self, strike: Strike) -> None:
        delay_s = read_delay_s(strike.options.get("delay", DEFAULT_DELAY))
        for member in strike.choice.members:
            strike.memory[member.name] = member.process.log_path.stat().st_size
            _control_file(member).write_text(f"slow {delay_s}\n")

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        return [self._seen(strike, member) for member in strike.choice.members]

    def _seen(self, strike: Strike, member: Member) -> str | None:
        with member.process.log_path.open("rb") as log:
            log.seek(strike.memory[member.name])
            said = log.read(64 * 1024).decode("utf-8", "replace")
        if _SLOW_SYNC.search(said) is None:
            return None
        return f"{member.name} waits {strike.options.get('delay', DEFAULT_DELAY)} more for each fsync"

    def heal(self, victim: Member) -> None:
        _control_file(victim).unlink(missing_ok=True)

    def healed(self, members: Sequence[Member]) -> str:
        return f"the disk of {names_of(members)} is as fast as before"


class _Damage(_OnDisk):
    """Kill, change a file, start again; heal puts back what the node refused."""

    heal_word = "restart"
    selectors: ClassVar[Sequence[str]] = ("follower", "node")
    effect_within_s = 30.0

    def begin(self, strike: Strike) -> None:
        for member in strike.choice.members:
            signal_to(member, signal.SIGKILL, ends_it=True)
            if not member.process.wait_for_exit(KILL_WITHIN_S):
                raise NoEffect(f"{member.name} did not end")
            strike.memory[member.name] = self._damage(strike, _last_segment(member))

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        return [strike.memory.get(member.name) for member in strike.choice.members]

    def heal_one(self, strike: Strike, member: Member) -> None:
        """Start on the damaged file; when the node refuses it, start on the file as it was."""
        process = member.process
        if process.state is not State.EXITED:
            return
        on_death, process.on_death = process.on_death, None  # a refusal is what is expected of it
        try:
            started = True
            try:
                member.start(REFUSED_WITHIN_S)
            except TargetError:
                started = False
            # It may notice only when the leader tells it what it had acknowledged.
            process.expect_end()
            if started and not process.wait_for_exit(SETTLED_AFTER_S):
                strike.memory["after"] = f"; {member.name} started with it and caught up"
                return
            refusal = (process.last_lines(1) or ["it said nothing"])[0]
            process.stop()
            _put_back(member)
            member.start()
            strike.memory["after"] = (
                f"; {member.name} refused the damaged log ({refusal}) and got the undamaged one back"
            )
        finally:
            process.expect_end(False)
            process.on_death = on_death
            _forget_saved(member)

    def heal(self, victim: Member) -> None:
        if victim.process.state is State.EXITED:
            victim.start()

    def _damage(self, strike: Strike, path: Path) -> str | None:
        raise NotImplementedError


class LogTruncate(_Damage):
    name = "log-truncate"
    summary = "SIGKILL, and the end of the log is cut off while the node is down, as after a power failure"
    options: ClassVar[Mapping[str, str]] = {"bytes": str(DEFAULT_CUT_BYTES)}
    readers: ClassVar[Mapping[str, Callable[[str], object]]] = {"bytes": read_cut_bytes}

    def _damage(self, strike: Strike, path: Path) -> str | None:
        cut = read_cut_bytes(strike.options.get("bytes", str(DEFAULT_CUT_BYTES)))
        size = path.stat().st_size
        shutil.copy2(path, _saved(path))
        with path.open("r+b") as file:
            file.truncate(max(size - cut, 0))
        left = path.stat().st_size
        return f"{path.name} was cut from {size} to {left} bytes" if left < size else None


class BitFlip(_Damage):
    name = "bit-flip"
    summary = "SIGKILL, and one bit of the log is flipped while the node is down; the node must notice"

    def _damage(self, strike: Strike, path: Path) -> str | None:
        shutil.copy2(path, _saved(path))
        with path.open("r+b") as file:
            size = file.seek(0, 2)
            place = int(size * FLIP_AT_SHARE)
            file.seek(place)
            before = file.read(1)
            if not before:
                return None
            after = bytes([before[0] ^ (1 << strike.rng.randrange(8))])
            file.seek(place)
            file.write(after)
        return f"{path.name}: byte {place} of {size} was {before.hex()} and is {after.hex()}"


def _control_file(victim: Member) -> Path:
    if not isinstance(victim, ClusterMember):
        raise NoEffect(f"{victim.name} has no disk that can be made to fail")
    return victim.data_dir.with_name(DISK_FAULTS_NAME)


def _last_segment(victim: Member) -> Path:
    if not isinstance(victim, ClusterMember):
        raise NoEffect(f"{victim.name} has no log here")
    segments = sorted(victim.data_dir.glob("log-*"))
    segments = [path for path in segments if not path.name.endswith((SAVED_SUFFIX, ".tmp"))]
    if not segments:
        raise NoEffect(f"{victim.name} has no log in {victim.data_dir}")
    return segments[-1]


def _saved(path: Path) -> Path:
    """Beside the data directory: the node must not find a file that it does not know."""
    return path.parent.with_name(path.name + SAVED_SUFFIX)


def _put_back(victim: Member) -> None:
    path = _last_segment(victim)
    shutil.copy2(_saved(path), path)


def _forget_saved(victim: Member) -> None:
    assert isinstance(victim, ClusterMember)
    for path in victim.data_dir.parent.glob(f"*{SAVED_SUFFIX}"):
        path.unlink(missing_ok=True)
