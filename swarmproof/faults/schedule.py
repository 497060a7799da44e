"""When faults strike: a plan's [[fault]] tables and `--fault "kill leader @10s restart 5s"`, as a list of due times.

The seed decides everything that is random; the same seed, faults and run time give the same schedule.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from swarmproof.durations import parse_duration_s, parse_period_s, show_s
from swarmproof.faults.catalogue import CATALOGUE, TARGET_FORMS
from swarmproof.faults.fault import CLIENT_LINKS, PEER_LINKS
from swarmproof.faults.proxy.toxics import TOXICS, ToxicMistake, merge_toxics
from swarmproof.faults.selection import CLUSTER_SELECTORS, normal_target, split_target

# A period of 1 ms over a day is a mistake, not a plan.
MAX_SCHEDULED = 10_000
# A repeated fault is not begun so late: the load could be over before it strikes, and nothing would be seen of it.
END_ROOM_S = 2.0
EXAMPLE = '"kill leader @10s restart 5s" or "pause follower every 20s ± 2s for 3s"'
_AFTER_OPERATIONS = re.compile(r"\bafter\s+([\d_,]+)\s+operations?\b", re.IGNORECASE)
_IN_FLIGHT = re.compile(
    r"\bwhen\s+(\d+)\s+(?:requests?\s+|writes?\s+)?(?:are\s+)?in\s+flight\b(?:\s+on\s+the\s+leader\b)?", re.IGNORECASE
)
_HEAL_WORDS = frozenset({"restart", "for", "heal", "resume"})


class FaultMistake(ValueError):
    """A fault that cannot be understood; the text is one sentence with the allowed words."""


@dataclass(frozen=True)
class FaultSpec:
    """One line of a plan. `at_s` is the first time, `every_s` ± `jitter_s` repeats it, at most `count` times.

    `heal_after_s` None: it stays until the end of the load.
    """

    kind: str
    target: str
    at_s: float | None = None
    every_s: float | None = None
    jitter_s: float = 0.0
    count: int | None = None
    heal_after_s: float | None = None
    after_operations: int | None = None
    in_flight: int | None = None
    toxics: tuple[str, ...] = ()
    links: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def is_conditional(self) -> bool:
        """Whether it waits for more than a time."""
        return self.after_operations is not None or self.in_flight is not None

    @property
    def what(self) -> str:
        """`link leader peers latency=50ms`: everything but when."""
        words = [self.kind, self.target, *([self.links] if self.links else [])]
        return " ".join([*words, *([self.how] if self.how else [])])

    @property
    def how(self) -> str:
        """`latency=50ms slicer=64`: toxics and options; "" for most kinds."""
        return " ".join([*self.toxics, *(f"{name}={value}" for name, value in self.options)])

    def describe(self) -> str:
        """`kill leader every 20 s ± 2 s, restart after 5 s`."""
        words = [self.what]
        if self.at_s is not None and not (self.is_conditional and self.at_s == 0):
            words.append(f"@{show_s(self.at_s)}")
        if self.every_s is not None:
            words.append(f"every {show_s(self.every_s)}" + (f" ± {show_s(self.jitter_s)}" if self.jitter_s else ""))
        if self.after_operations is not None:
            words.append(f"after {self.after_operations} operations")
        if self.in_flight is not None:
            words.append(f"when {self.in_flight} are in flight on the leader")
        text = " ".join(words)
        if self.heal_after_s is None:
            return text
        heal = "restart after" if CATALOGUE[self.kind].heal_word == "restart" else "for"
        return f"{text}, {heal} {show_s(self.heal_after_s)}"


class ScheduledFault(NamedTuple):
    """One strike: number, seconds after the start of the load, and what."""

    id: int
    due_s: float
    spec: FaultSpec


def check_kind(kind: str) -> str:
    """Errors: FaultMistake that lists the catalogue."""
    if kind not in CATALOGUE:
        raise FaultMistake(f"there is no fault {kind!r}; there are: {', '.join(CATALOGUE)}")
    return kind


def parse_fault(text: str) -> FaultSpec:
    """`kill leader @10s every 20s ± 2s restart 5s count 3`. Errors: FaultMistake."""
    conditions: dict[str, int | None] = {"after_operations": None, "in_flight": None}
    rest = text
    for name, pattern in (("after_operations", _AFTER_OPERATIONS), ("in_flight", _IN_FLIGHT)):
        found = pattern.search(rest)
        if found is not None:
            conditions[name] = int(found[1].replace(",", "").replace("_", ""))
            rest = f"{rest[: found.start()]} {rest[found.end() :]}"
    words = rest.replace("@ ", "@").split()
    if len(words) < 2:
        raise FaultMistake(f"{text!r} is not a fault; write it like {EXAMPLE}")
    kind = check_kind(words[0].lower())
    clauses = _clauses(words[1:])
    words, toxics, links, options = _told(kind, clauses.pop("target"))
    target = " ".join(words)
    if not target:
        raise FaultMistake(f"{text!r} names no target; it can be {TARGET_FORMS}")
    try:
        period = parse_period_s(" ".join(clauses.pop("every"))) if "every" in clauses else None
        at_s = parse_duration_s(" ".join(clauses.pop("@"))) if "@" in clauses else None
        heal = clauses.pop("heal", None)
        count_words = clauses.pop("count", None)
        count = int(" ".join(count_words)) if count_words is not None else None
        return fault_spec(
            kind,
            target,
            at_s=at_s,
            period=period,
            count=count,
            heal_after_s=parse_duration_s(" ".join(heal)) if heal is not None else None,
            after_operations=conditions["after_operations"],
            in_flight=conditions["in_flight"],
            toxics=toxics,
            links=links,
            options=options,
        )
    except FaultMistake:
        raise
    except ValueError as error:
        raise FaultMistake(f"in the fault {text!r}: {error}; write it like {EXAMPLE}") from error


def fault_spec(
    kind: str,
    target: str,
    *,
    at_s: float | None,
    period: tuple[float, float] | None,
    count: int | None,
    heal_after_s: float | None,
    after_operations: int | None = None,
    in_flight: int | None = None,
    toxics: Sequence[str] = (),
    links: str | None = None,
    options: Sequence[tuple[str, str]] = (),
) -> FaultSpec:
    """A checked FaultSpec. Errors: FaultMistake."""
    check_kind(kind)
    conditional = after_operations is not None or in_flight is not None
    if at_s is None and period is None and not conditional:
        raise FaultMistake(
            f"{kind} {target} has no time; give it `at` (@10s), `every` (every 20s ± 2s), `after_operations` "
            "(after 5000 operations) or `in_flight` (when 10 in flight)"
        )
    if after_operations is not None and (period is not None or in_flight is not None):
        raise FaultMistake(f"{kind} {target} strikes once after its operations; leave `every` and `in_flight` out")
    if count is not None and count < 1:
        raise FaultMistake(f"count = {count} of {kind} {target} must be at least 1")
    if count is not None and period is None and count > 1:
        raise FaultMistake(f"count = {count} of {kind} {target} needs `every` to say when it is repeated")
    every_s, jitter_s = period if period is not None else (None, 0.0)
    spec = FaultSpec(
        kind,
        normal_target(target),
        0.0 if conditional and at_s is None and period is None else at_s,
        every_s,
        jitter_s,
        count,
        heal_after_s,
        after_operations,
        in_flight,
        tuple(toxics),
        links,
        tuple(sorted(options)),
    )
    check_spec(spec)
    return spec


def check_spec(spec: FaultSpec) -> None:
    """Whether the kind can be told these things, and can be aimed like this. Errors: FaultMistake."""
    fault = CATALOGUE[check_kind(spec.kind)]
    selector, _ = split_target(spec.target)
    if selector in CLUSTER_SELECTORS | {"all"} and selector not in fault.selectors:
        words = ", ".join(word if word != "node" else "node N" for word in fault.selectors)
        raise FaultMistake(f"{spec.kind} cannot be aimed at {spec.target!r}; it can be {words}, or a name")
    if spec.kind != "link" and spec.toxics:
        raise FaultMistake(f"{spec.kind} takes no toxics; the fault `link` does: link leader latency=50ms @10s")
    if spec.kind == "link":
        if not spec.toxics:
            raise FaultMistake(f"link {spec.target} has no toxics; give it one or more of: {', '.join(TOXICS)}")
        try:
            merge_toxics(spec.toxics)
        except ToxicMistake as error:
            raise FaultMistake(f"link {spec.target}: {error}") from error
    if spec.links is not None and (spec.kind != "link" or spec.links not in (PEER_LINKS, CLIENT_LINKS)):
        raise FaultMistake(f"links = {spec.links!r} of {spec.kind}: only the fault `link` has links, peers or clients")
    allowed = ", ".join(f"{name}={example}" for name, example in fault.options.items()) or "none"
    for name, value in spec.options:
        if name not in fault.options:
            raise FaultMistake(f"{spec.kind} has no option {name!r}; its options are: {allowed}")
        try:
            fault.readers[name](value)
        except ValueError as error:
            raise FaultMistake(
                f"{name} = {value!r} of {spec.kind} {spec.target}: {error}; an example: {name}={fault.options[name]}"
            ) from error
    for name in fault.required:
        if name not in dict(spec.options):
            raise FaultMistake(f"{spec.kind} needs {name}, such as {name}={fault.options[name]}")


def build_schedule(specs: Sequence[FaultSpec], seed: int, run_time_s: float | None) -> list[ScheduledFault]:
    """All strikes up to `run_time_s` (None: no end, and `every` needs `count`) by time. Errors: FaultMistake."""
    strikes: list[tuple[float, int, FaultSpec]] = []
    for position, spec in enumerate(specs):
        # Its own generator: adding a fault to a plan does not move the others.
        rng = random.Random(f"{seed}/{position}/{spec.kind}/{spec.target}")
        if run_time_s is None and spec.every_s is not None and spec.count is None:
            raise FaultMistake(
                f"`{spec.describe()}` never ends without a run time; give it a `count` or the run a time"
            )
        strikes += [(due_s, position, spec) for due_s in _due_times(spec, rng, run_time_s)]
        if len(strikes) > MAX_SCHEDULED:
            raise FaultMistake(f"`{spec.describe()}` would strike more than {MAX_SCHEDULED} times")
    strikes.sort(key=lambda strike: strike[:2])
    return [ScheduledFault(number, due_s, spec) for number, (due_s, _, spec) in enumerate(strikes, start=1)]


def _due_times(spec: FaultSpec, rng: random.Random, run_time_s: float | None) -> list[float]:
    if spec.every_s is None:
        return [spec.at_s or 0.0]
    first_s = spec.at_s if spec.at_s is not None else spec.every_s
    times: list[float] = []
    while spec.count is None or len(times) < spec.count:
        # The grid does not drift: jitter moves one strike, not those after it.
        due_s = first_s + len(times) * spec.every_s
        due_s = max(due_s + rng.uniform(-spec.jitter_s, spec.jitter_s), 0.0)
        if run_time_s is not None and spec.count is None and due_s > run_time_s - END_ROOM_S:
            break
        times.append(round(due_s, 3))
        if len(times) > MAX_SCHEDULED:
            break
    return times


def _told(
    kind: str, words: Sequence[str]
) -> tuple[list[str], tuple[str, ...], str | None, tuple[tuple[str, str], ...]]:
    """The words behind a kind: target words, toxics, links, options."""
    target: list[str] = []
    toxics: list[str] = []
    links: str | None = None
    options: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        bare = name.rpartition(":")[2].lower().replace("-", "_")
        if kind == "link" and (equals or bare in TOXICS):
            toxics.append(word)
        elif equals:
            options.append((name.lower(), value))
        elif kind == "link" and word.lower() in (PEER_LINKS, CLIENT_LINKS):
            links = word.lower()
        else:
            target.append(word)
    return target, tuple(toxics), links, tuple(options)


def _clauses(words: Sequence[str]) -> dict[str, list[str]]:
    """Words after the kind, by the keyword that they follow; `@10s` is the clause `@`."""
    clauses: dict[str, list[str]] = {"target": []}
    current = "target"
    for word in words:
        lower = word.lower()
        if word.startswith("@") or lower == "at":
            current, rest = "@", word[1:] if word.startswith("@") else ""
        elif lower in _HEAL_WORDS:
            current, rest = "heal", ""
        elif lower in ("every", "count"):
            current, rest = lower, ""
        elif lower == "after" and current == "heal" and not clauses["heal"]:
            continue  # `restart after 5s` reads better
        else:
            clauses[current].append(word)
            continue
        if current in clauses:
            raise FaultMistake(f"{word!r} stands twice in one fault; write it like {EXAMPLE}")
        clauses[current] = [rest] if rest else []
    return clauses
