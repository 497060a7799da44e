"""Faults that a server commits itself when asked to: the modes of a F00D device, and bursts of RPC errors."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
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
MODES: Final = ("SUCCESS", "DELAY", "DISCONNECT", "TIMEOUT", "REJECT")
MAX_STEPS: Final = 1000
MAX_STEP_S: Final = 3600.0
MAX_TIMES: Final = 1_000_000
MODES_WITH_SECONDS: Final = ("DELAY", "REJECT")
_STEP = re.compile(r"(?P<mode>[A-Za-z]+)(?::(?P<seconds>\d+(?:\.\d*)?|\.\d+))?(?:\*(?P<times>\d+))?", re.ASCII)


def check_script(text: str) -> None:
    """Whether a device would take it as its script (servers/f00d/script.py). Errors: ValueError."""
    steps = text.split(",")
    if len(steps) > MAX_STEPS:
        raise ValueError(f"a script has at most {MAX_STEPS} steps")
    for place, step in enumerate(steps, start=1):
        match = _STEP.fullmatch(step.strip())
        mode = match["mode"].upper() if match is not None else ""
        if match is None or mode not in MODES:
            forms = f"MODE[:SECONDS][*TIMES] with one of {', '.join(MODES)}"
            raise ValueError(f"{step.strip()!r} is no step; write {forms}")
        seconds, times = match["seconds"], int((match["times"] or "1")[:10])
        if seconds is not None and mode not in MODES_WITH_SECONDS:
            raise ValueError(f"{mode} takes no seconds; only {' and '.join(MODES_WITH_SECONDS)} do")
        if seconds is not None and float(seconds) > MAX_STEP_S:
            raise ValueError(f"a step lasts at most {MAX_STEP_S:g} s")
        if not 1 <= times <= MAX_TIMES:
            raise ValueError(f"a step is repeated 1 to {MAX_TIMES} times")
        if mode == "REJECT" and place < len(steps) and (seconds is None or times > 1):
            raise ValueError("REJECT before the end of a script needs its seconds, such as REJECT:0.5, and no times")


def read_share(text: str) -> float:
    """`30%` or `0.3`. Errors: ValueError."""
    number, percent, rest = text.partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if rest or not 0 < share <= 1:
        raise ValueError(f"{text!r} is not a share above 0; write it such as 30%")
    return share


class F00dMode(Fault):
    name = "mode"
    summary = "a F00D server behaves as one of its modes says: TIMEOUT, DISCONNECT, DELAY ... or a script of them"
    heal_word = "for"
    selectors: ClassVar[Sequence[str]] = ("all",)
    kinds: ClassVar[Sequence[str]] = ("f00d",)
    options: ClassVar[Mapping[str, str]] = {"mode": "TIMEOUT"}
    required: ClassVar[Sequence[str]] = ("mode",)
    readers: ClassVar[Mapping[str, Callable[[str], object]]] = {"mode": check_script}
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
    readers: ClassVar[Mapping[str, Callable[[str], object]]] = {"share": read_share}
    silences = False

    def healed(self, members: Sequence[Member]) -> str:
        return f"{names_of(members)}: answers are as before"

    def begin(self, strike: Strike) -> None:
        share = read_share(strike.options.get("share", DEFAULT_SHARE))
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
