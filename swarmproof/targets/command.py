"""A command of the user's as a target: any program, in any language, ready by a TCP probe or a line in its log.

In the command and in `ready`, `{port}` stands for the port that the target was given.
"""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from swarmproof.targets.base import LOOPBACK, READY_WITHIN_S, Member, Surroundings, Target, accepts
from swarmproof.targets.errors import TargetError, TargetNotStarted
from swarmproof.targets.links import CLIENTS, LinkPlan, link_name
from swarmproof.targets.ports import free_ports, is_free
from swarmproof.targets.process import ChildProcess

READY_FORMS = '"tcp", "tcp:PORT", "tcp:HOST:PORT", or "log:REGULAR EXPRESSION"'


class TcpReady(NamedTuple):
    """Ready when something accepts there."""

    host: str
    port: int


class LogReady(NamedTuple):
    """Ready when a line of its log matches."""

    pattern: "re.Pattern[str]"


def parse_ready(text: str, port: int) -> TcpReady | LogReady:
    """`tcp`, `tcp:9000`, `tcp:localhost:9000`, `log:listening on`. Errors: TargetError."""
    kind, _, rest = text.partition(":")
    if kind == "log" and rest:
        try:
            return LogReady(re.compile(rest, re.MULTILINE))
        except re.error as error:
            raise TargetError(f"ready = {text!r} is not a regular expression: {error}") from error
    if kind == "tcp":
        host, _, number = rest.rpartition(":")
        if not rest:
            return TcpReady(LOOPBACK, port)
        if number.isdecimal() and 0 < int(number) < 65536:
            return TcpReady(host or LOOPBACK, int(number))
    raise TargetError(f"ready = {text!r} is not understood; it can be {READY_FORMS}")


class CommandMember(Member):
    """The process of the command."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        ready: TcpReady | LogReady,
        around: Surroundings,
        *,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        ready_within_s: float,
    ) -> None:
        self.name = name
        self._ready = ready
        self._ready_within_s = ready_within_s
        self.process = ChildProcess(
            name,
            command,
            directory=around.nodes_dir / name,
            guard=around.guard,
            env=env,
            cwd=cwd,
            on_death=around.on_death,
        )

    def start(self, timeout_s: float | None = None) -> None:
        within_s = self._ready_within_s if timeout_s is None else timeout_s
        self.process.start()
        if isinstance(self._ready, LogReady):
            self.process.wait_for_line(self._ready.pattern, within_s)
        else:
            self.process.wait_until(self.answers, within_s, f"accept connections on port {self._ready.port}")

    def answers(self) -> bool:
        if isinstance(self._ready, TcpReady):
            return accepts(self._ready.host, self._ready.port)
        return self.process.pid is not None


class CommandTarget(Target):
    """Any command. `host` is the address that the users get; by default tcp:// and the port."""

    kind = "command"

    def __init__(
        self,
        command: str | Sequence[str],
        around: Surroundings,
        *,
        name: str,
        ready: str = "tcp",
        port: int | None = None,
        host: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready_within_s: float = READY_WITHIN_S,
        links: Collection[str] = (),
    ) -> None:
        """With `links`, clients are given a link in front of the port; a `host` without {port} stays as it is."""
        self.name = name
        self._board = around.board if CLIENTS in links else None
        self._asked_port = port
        self._port = port if port is not None else free_ports(1)[0]
        try:
            words = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as error:
            raise TargetError(f"command = {command!r} is not a command line: {error}") from error
        if not words:
            raise TargetError(f"the command of target {name} is empty; give the program and its arguments")
        words = [self._with_port(word) for word in words]
        self._client_port = free_ports(1)[0] if self._board is not None else self._port
        self.address = (host or "tcp://127.0.0.1:{port}").replace("{port}", str(self._client_port))
        self._ready = parse_ready(self._with_port(ready), self._port)
        self._member = CommandMember(name, words, self._ready, around, env=env, cwd=cwd, ready_within_s=ready_within_s)

    @property
    def members(self) -> Sequence[CommandMember]:
        return [self._member]

    def start(self) -> None:
        ready = self._ready
        if isinstance(ready, TcpReady) and not is_free(ready.port, ready.host):
            raise TargetNotStarted(
                f"cannot start {self.name}: port {ready.port} is in use; "
                "stop the program that uses it or choose another port"
            )
        try:
            if self._board is not None:
                self._board.open(LOOPBACK, [LinkPlan(link_name(CLIENTS, self.name), self._client_port, self._port)])
            self._member.start()
        except BaseException:
            self._member.process.stop()
            raise

    def _with_port(self, text: str) -> str:
        return text.replace("{port}", str(self._port))
