"""The reference servers as targets: `python -m servers.NAME`, ready when they say so and accept."""

import re
import sys
from collections.abc import Collection, Mapping, Sequence

from swarmproof.targets.base import LOOPBACK, READY_WITHIN_S, START_ATTEMPTS, Member, Surroundings, Target, accepts
from swarmproof.targets.errors import TargetNotStarted
from swarmproof.targets.links import CLIENTS, LinkPlan, link_name
from swarmproof.targets.ports import free_ports, is_free
from swarmproof.targets.process import ChildProcess

# In the folder of a websocket_rpc server: while it is there, calls are answered with errors.
RPC_ERRORS_NAME = "rpc-errors"

# Kind -> the scheme of the address that its users are given.
SCHEMES: Mapping[str, str] = {
    "envelope": "tcp",
    "f00d": "tcp",
    "websocket_echo": "ws",
    "websocket_rpc": "ws",
    "websocket_tools": "ws",
    "websocket_performance": "ws",
    "websocket_load": "ws",
    "websocket_security": "ws",
}


class ServerMember(Member):
    """One reference server process on one port, the same one at each start."""

    def __init__(self, name: str, kind: str, port: int, arguments: Sequence[str], around: Surroundings) -> None:
        self.name = name
        self.port = port
        self._startup_line = re.compile(rf"^{kind} listening on (\S+):(\d+)", re.MULTILINE)
        command = [sys.executable, "-m", f"servers.{kind}", "--host", LOOPBACK, "--port", str(port), *arguments]
        self.process = ChildProcess(
            name,
            command,
            directory=around.nodes_dir / name,
            guard=around.guard,
            on_death=around.on_death,
        )

    def start(self, timeout_s: float = READY_WITHIN_S) -> None:
        self.process.start()
        self.process.wait_for_line(self._startup_line, timeout_s)
        self.process.wait_until(self.answers, timeout_s, f"accept connections on port {self.port}")

    def answers(self) -> bool:
        return accepts(LOOPBACK, self.port)


class ServerTarget(Target):
    """One reference server. `port` None means a free one."""

    def __init__(
        self,
        kind: str,
        around: Surroundings,
        *,
        name: str | None = None,
        port: int | None = None,
        arguments: Sequence[str] = (),
        links: Collection[str] = (),
    ) -> None:
        self.kind = kind
        self.name = name or kind
        self._around = around
        self._has_link = around.board is not None and CLIENTS in links
        self._arguments = [*self._fault_arguments(), *arguments]
        self._asked_port = port
        self._make_member(port if port is not None else free_ports(1)[0])

    @property
    def members(self) -> Sequence[ServerMember]:
        return [self._member]

    def start(self) -> None:
        if self._asked_port is not None and not is_free(self._asked_port):
            raise TargetNotStarted(
                f"cannot start {self.name}: port {self._asked_port} is in use; "
                "stop the program that uses it or choose another port"
            )
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                if self._around.board is not None and self._has_link:
                    plan = LinkPlan(
                        link_name(CLIENTS, self.name), self._client_port, self._member.port, self.kind == "envelope"
                    )
                    self._around.board.open(LOOPBACK, [plan])
                self._member.start()
            except TargetNotStarted:
                taken = not is_free(self._member.port)
                if self._asked_port is not None or not taken or attempt == START_ATTEMPTS:
                    raise
                self._make_member(free_ports(1)[0])
            except BaseException:
                self._member.process.stop()
                raise
            else:
                return

    def _make_member(self, port: int) -> None:
        self._member = ServerMember(self.name, self.kind, port, self._arguments, self._around)
        self._client_port = free_ports(1)[0] if self._has_link else port
        self.address = f"{SCHEMES[self.kind]}://{LOOPBACK}:{self._client_port}"

    def _fault_arguments(self) -> list[str]:
        """What lets a fault ask the server to misbehave."""
        if self.kind == "f00d":
            return ["--admin-port", "0"]
        if self.kind == "websocket_rpc":
            return ["--errors-while", str(self._around.nodes_dir / self.name / RPC_ERRORS_NAME)]
        return []
