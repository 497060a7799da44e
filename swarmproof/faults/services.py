"""Faults that a server commits itself when asked to: the modes of a F00D device, and bursts of RPC errors."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from swarmproof.faults.fault import Fault, NoEffect, Strike, names_of
from swarmproof.targets.base import LOOPBACK, Member
from swarmproof.targets.errors import TargetError
from swarmproof.targets.servers import RPC_ERRORS_NAME

ANSWER_WITHIN_S: Final = 2.0
ADMIN_LINE = re.compile(r"admin_listening\b.*?address=\S+?:(\d+)")
DEFAULT_SHARE: Final = "100%"
LOG_BYTES = 64 * 1024


class F00dMode(Fault):
    name = "mode"
    summary = "a F00D server behaves as one of its modes says: TIMEOUT, DISCONNECT, DELAY ... or a script of them"
    heal_word = "for"
    selectors: ClassVar[Sequence[str]] = ("all",)
    kinds: ClassVar[Sequence[str]] = ("f00d",)
    options: ClassVar[Mapping[str, str]] = {"mode": "TIMEOUT"}
    required: ClassVar[Sequence[str]] = ("mode",)
    silences = False

    def begin(self, strike: Strike) -> None:
        for member in strike.choice.members:
            strike.memory[member.name] = _admin(member, "GET")
            _admin(member, "POST", {"script": strike.options["mode"]})

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        seen: list[str | None] = []
        for member in strike.choice.members:
            now = _admin(member, "GET")
            was = strike.memory[member.name]
            changed = now["script"] != was["script"]
            seen.append(f"{member.name} answers as {now['mode']} (before: {was['mode']})" if changed else None)
        return seen

    def heal_one(self, strike: Strike, member: Member) -> None:
        was = strike.memory.get(member.name)
        if was is not None and member.process.pid is not None:
            _admin(member, "POST", {"script": was["script"], "delay_s": was["delay_s"]})

    def healed(self, members: Sequence[Member]) -> str:
        return f"{names_of(members)}: answers are as before"


class RpcErrors(Fault):
    name = "rpc-errors"
    summary = "a WebSocket RPC server answers a share of the calls with an error"
    heal_word = "for"
    selectors: ClassVar[Sequence[str]] = ("all",)
    kinds: ClassVar[Sequence[str]] = ("websocket_rpc",)
    options: ClassVar[Mapping[str, str]] = {"share": "30%"}
    silences = False

    def healed(self, members: Sequence[Member]) -> str:
        return f"{names_of(members)}: answers are as before"

    def strike_share(self, strike: Strike) -> float:
        text = strike.options.get("share", DEFAULT_SHARE)
        number, percent, _ = text.partition("%")
        try:
            share = float(number) / (100 if percent else 1)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise NoEffect(f"share={text} is not a share; write it such as 30%")
        return share

    def begin(self, strike: Strike) -> None:
        share = self.strike_share(strike)
        for member in strike.choice.members:
            errors_file(member.process.directory).write_text(f"{share}\n")
            strike.memory[member.name] = member.process.log_path.stat().st_size

    def evidence(self, strike: Strike) -> Sequence[str | None]:
        seen: list[str | None] = []
        for member in strike.choice.members:
            with member.process.log_path.open("rb") as log:
                log.seek(strike.memory[member.name])
                said = log.read(LOG_BYTES)
            share = strike.options.get("share", DEFAULT_SHARE)
            seen.append(f"{member.name} answers {share} of the calls with an error" if b"rpc_errors " in said else None)
        return seen

    def heal(self, victim: Member) -> None:
        errors_file(victim.process.directory).unlink(missing_ok=True)


def errors_file(directory: Path) -> Path:
    """While this file exists, a websocket_rpc server that was told of it answers with errors."""
    return directory / RPC_ERRORS_NAME


def _admin(member: Member, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to the device's admin port. Errors: TargetError, NoEffect without such a port."""
    ports = ADMIN_LINE.findall(member.process.log_path.read_text("utf-8", "replace"))
    if not ports:
        raise NoEffect(f"{member.name} has no admin port; only a f00d server has modes")
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{ports[-1]}/mode",
        data=json.dumps(body).encode() if body is not None else None,
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as reply:
            answer: dict[str, Any] = json.loads(reply.read())
    except urllib.error.HTTPError as error:
        raise NoEffect(f"{member.name} refused: {error.read().decode('utf-8', 'replace').strip()}") from error
    except (OSError, ValueError) as error:
        raise TargetError(f"the admin port of {member.name} does not answer: {error}") from error
    return answer
