"""Seed 004's election test: three nodes, a leader killed, a new one elected, and nothing that was written is lost.

Prints its script line by line as it happens and ends with PASS or FAIL; every node is stopped either way.
"""

import contextlib
import itertools
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from protocols.kv import OK, PUT, KvReply, KvRequest
from swarmproof.targets.base import LOOPBACK, Surroundings
from swarmproof.targets.errors import TargetError
from swarmproof.targets.guard import Guard
from swarmproof.targets.kv_client import KvConnection, KvUnavailable
from swarmproof.targets.ports import is_free
from swarmproof.targets.raft import RaftTarget
from swarmproof.targets.raft_watch import Leadership

NODES = 3
FIRST_PORT = 9001  # the seed's; other free ports when one of them is taken
ELECTION_WITHIN_S = 2.0
NODE_WITHIN_S = 30.0
STEP_WITHIN_S = 5.0
BEFORE_THE_KILL = (("key1", "value1"), ("key2", "value2"), ("key3", "value3"))
AFTER_THE_KILL = (("key4", "value4"), ("key5", "value5"))


class _StepFailed(Exception):
    """The script cannot go on; the text is why."""


class _Script:
    """Prints `Doing something... OK`: what is done before it is done, its outcome after."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Put the outcome's text into the list; `OK` when it stays empty."""
        self._write(f"{what}... ")
        outcome: list[str] = []
        try:
            yield outcome
        except BaseException as error:
            self._write("FAILED\n" if isinstance(error, (_StepFailed, TargetError, KvUnavailable)) else "\n")
            raise
        self._write((outcome[0] if outcome else "OK") + "\n")


def election_test(
    write: Callable[[str], None], *, ports: list[int] | None = None, directory: Path | None = None
) -> bool:
    """Run the script, printed piece by piece through `write`; whether it passed.

    `directory` keeps the nodes' logs and data; by default a temporary one that is removed. Ctrl-C leaves nothing.

    Errors: TargetError when `directory` cannot be used.
    """
    if directory is not None:
        _must_be_new(directory)
    with Guard() as guard:
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="swarmproof-"))
            guard.protect(directory)
        cluster = RaftTarget(NODES, Surroundings(guard, directory), ports=ports or _ports())
        try:
            _run(cluster, _Script(write))
        except (_StepFailed, TargetError, KvUnavailable) as error:
            write(f"FAIL: {error}\n")
            return False
        finally:
            cluster.stop()
    write("PASS: all checks passed\n")
    return True


def _must_be_new(directory: Path) -> None:
    """What an earlier cluster has written must not become this one's history."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise TargetError(f"{directory} is not empty; give --keep a new folder, or empty it")
    except OSError as error:
        raise TargetError(f"cannot use {directory}: {error.strerror}; give --keep another folder") from None


def _run(cluster: RaftTarget, script: _Script) -> None:
    cluster.prepare()
    for member in cluster.members:
        if not is_free(member.port):
            raise _StepFailed(f"port {member.port} is in use; stop the program that uses it or choose other ports")
        with script.step(f"Starting node {member.node_id} on port {member.port}"):
            member.start(NODE_WITHIN_S)
    writer = _Writer(cluster, script)
    with script.step("Waiting for leader") as outcome:
        leader = _elected(cluster)
        outcome.append(f"node {leader.node} elected (term {leader.term})")
    writer.write_all(leader, BEFORE_THE_KILL)
    with script.step(f"Killing leader (node {leader.node})"):
        killed_ns = time.monotonic_ns()
        victim = cluster.member_of(leader.node)
        victim.process.terminate()  # SIGTERM, as the seed says
        watch = cluster.start_watching()
        if not victim.process.wait_for_exit(STEP_WITHIN_S):
            raise _StepFailed(f"node {leader.node} did not end within {STEP_WITHIN_S:g} s of SIGTERM")
    with script.step("Waiting for new leader") as outcome:
        found = watch.wait_for_leader(ELECTION_WITHIN_S, after_ns=killed_ns, not_node=leader.node)
        if found is None:
            raise _StepFailed(f"no new leader within {ELECTION_WITHIN_S:g} s")
        outcome.append(f"node {found.node} elected (term {found.term})")
    writer.write_all(found, AFTER_THE_KILL)
    follower = next(m for m in cluster.members if m.node_id not in (leader.node, found.node))
    with KvConnection(LOOPBACK, follower.port, STEP_WITHIN_S) as connection:
        for key, value in (*BEFORE_THE_KILL, *AFTER_THE_KILL):
            with script.step(f"Reading {key} from follower") as outcome:
                reply = _until_definite(connection, KvRequest("get", key))
                if reply.result != OK or reply.value != value:
                    raise _StepFailed(f"{key} reads {reply.value!r} ({reply.result}) where {value!r} was written")
                outcome.append(f"{value} OK")


class _Writer:
    """Writes through a leader, all in one session: a retry is applied once."""

    def __init__(self, cluster: RaftTarget, script: _Script) -> None:
        self._cluster = cluster
        self._script = script
        self._session = secrets.randbits(64)
        self._numbers = itertools.count(1)

    def write_all(self, leader: Leadership, pairs: tuple[tuple[str, str], ...]) -> None:
        with KvConnection(LOOPBACK, self._cluster.member_of(leader.node).port, STEP_WITHIN_S) as connection:
            for key, value in pairs:
                with self._script.step(f"Writing {key}={value}"):
                    request = KvRequest(PUT, key, value, client_id=self._session, seq=next(self._numbers))
                    reply = _until_definite(connection, request)
                    if reply.result != OK:
                        raise _StepFailed(f"node {leader.node} answered {reply.result} {reply.error}".rstrip())


def _until_definite(connection: KvConnection, request: KvRequest) -> KvReply:
    """One request, again while the node is busy or unsure (the session makes that safe), for STEP_WITHIN_S."""
    deadline = time.monotonic() + STEP_WITHIN_S
    while True:
        try:
            reply = connection.call(request)
        except KvUnavailable:
            if time.monotonic() > deadline:
                raise
        else:
            if reply.result in (OK, "NOT_FOUND", "ERROR") or time.monotonic() > deadline:
                return reply
        time.sleep(0.02)


def _elected(cluster: RaftTarget) -> Leadership:
    found = cluster.start_watching().wait_for_leader(ELECTION_WITHIN_S)
    if found is None:
        raise _StepFailed(f"no leader within {ELECTION_WITHIN_S:g} s")
    return found


def _ports() -> list[int] | None:
    wanted = [FIRST_PORT + number for number in range(NODES)]
    return wanted if all(is_free(port) for port in wanted) else None
