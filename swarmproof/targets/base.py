"""What every target has: a name, members (processes), an address for clients, and start / stop.

A target is one system under test: a single server, a command of the user's, or a cluster. Its members are the processes
that faults can hit, each by its own name (`envelope`, `n1`).
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from swarmproof.targets.errors import NoSuchTarget, TargetError
from swarmproof.targets.guard import Guard
from swarmproof.targets.links import LinkBoard
from swarmproof.targets.process import ChildProcess, State

# From start to answering: a loaded 2-core machine imports gevent in about 1 s; the rest is room.
READY_WITHIN_S = 30.0
CONNECT_TIMEOUT_S = 1.0
# A free port can be taken by another program between the look and the bind.
START_ATTEMPTS = 3
LOOPBACK = "127.0.0.1"


class MemberRow(NamedTuple):
    """One line of the `up` and `status` tables."""

    name: str
    kind: str
    address: str
    pid: int | None
    state: str
    role: str = ""
    term: int | None = None


class Member(ABC):
    """One process of a target, as a fault sees it."""

    name: str
    process: ChildProcess

    @abstractmethod
    def start(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Start the process (again) and wait until it answers. Errors: TargetError."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it answers a client right now (within about a second)."""


class Target(ABC):
    """A system under test."""

    name: str
    kind: str
    address: str  # what `--host` gets, such as tcp://127.0.0.1:9000 or kv://a:1,b:2,c:3

    @property
    @abstractmethod
    def members(self) -> Sequence[Member]:
        """Its processes."""

    @abstractmethod
    def start(self) -> None:
        """Start everything and wait until it answers. Errors: TargetError, with nothing left running."""

    def stop(self) -> None:
        """Stop all members at the same time. Idempotent."""
        for member in self.members:
            member.process.resume()
            member.process.terminate()
        for member in self.members:
            member.process.stop()

    def rows(self) -> list[MemberRow]:
        """The state of its members, for a person."""
        return [
            MemberRow(member.name, self.kind, self.address, member.process.pid, member.process.state.value)
            for member in self.members
        ]


class Surroundings(NamedTuple):
    """What a target needs from whoever starts it. `nodes_dir` gets one folder per member."""

    guard: Guard
    nodes_dir: Path
    on_death: Callable[[ChildProcess, str], None] | None = None
    board: LinkBoard | None = None  # None: no links, everybody dials everybody


def accepts(host: str, port: int, timeout_s: float = CONNECT_TIMEOUT_S) -> bool:
    """Whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return True
    except (OSError, UnicodeError):  # UnicodeError: a name that no resolver is even asked for
        return False


def member_named(targets: Sequence[Target], name: str) -> Member:
    """The member with this name, or the only member of the target with this name. Errors: NoSuchTarget."""
    names: list[str] = []
    for target in targets:
        for member in target.members:
            if member.name == name or (target.name == name and len(target.members) == 1):
                return member
            names.append(member.name)
    raise NoSuchTarget(f"there is no {name!r} here; there are: {', '.join(names) or 'no targets'}")


def start_all(targets: Sequence[Target], say: Callable[[str], None]) -> None:
    """Start targets one after the other; when one fails, those before it are stopped. Errors: TargetError."""
    started: list[Target] = []
    try:
        for target in targets:
            started.append(target)
            target.start()
            say(f"{target.name} ready at {target.address}")
    except BaseException:
        stop_all(started)
        raise


def stop_all(targets: Sequence[Target]) -> list[str]:
    """Stop all targets, whatever happens to one of them; what went wrong, as sentences."""
    problems: list[str] = []
    for target in targets:
        for member in target.members:
            member.process.on_death = None
    for target in reversed(targets):
        try:
            target.stop()
        except (TargetError, OSError) as error:
            problems.append(f"{target.name}: {error}")
    problems.extend(
        f"{member.name} could not be stopped (pid {member.process.pid})"
        for target in targets
        for member in target.members
        if member.process.state in (State.RUNNING, State.PAUSED)
    )
    return problems
