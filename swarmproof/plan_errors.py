"""From pydantic's list of errors to one sentence: where, which key, what stands there, what is allowed."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError


class PlanError(Exception):
    """A plan that cannot be used. The text is one sentence for the person who wrote it."""


def sentence_for(
    error: ValidationError, models: Mapping[str, type[BaseModel]], kinds: Sequence[str], text: str, where: str
) -> str:
    """The first mistake as a sentence; how many more there are, if there are more."""
    mistakes = error.errors(include_url=False)
    # A key that is not known explains a missing one: the misspelt key comes first.
    mistakes.sort(key=lambda mistake: mistake["type"] != "extra_forbidden")
    first = mistakes[0]
    place = [part for part in first["loc"] if part not in kinds or first["loc"].index(part) != 2]
    place = [
        part for part in place if not (isinstance(part, str) and part.startswith(("function-", "tuple[", "list[")))
    ]
    line = line_of(text, place)
    at = f"{where}, line {line}" if line else where
    more = f" ({len(mistakes) - 1} more after that)" if len(mistakes) > 1 else ""
    return f"{at}: {_what(first, place, models, kinds)}{more}"


def _what(
    mistake: Mapping[str, Any], place: Sequence[int | str], models: Mapping[str, type[BaseModel]], kinds: Sequence[str]
) -> str:
    table, key = _words_for(place)
    value, kind = mistake["input"], mistake["type"]
    if kind == "extra_forbidden":
        model = next((models[part] for part in reversed(mistake["loc"][:-1]) if part in models), models[""])
        allowed = sorted(field.alias or name for name, field in model.model_fields.items())
        guess = difflib.get_close_matches(str(place[-1]), allowed, n=1)
        hint = f"did you mean {guess[0]!r}? " if guess else ""
        return f"{table} has no key {str(place[-1])!r}; {hint}the keys are: {', '.join(allowed)}"
    if kind == "missing":
        return f"{table} lacks the key {str(place[-1])!r}"
    if kind == "union_tag_not_found":
        return f"{table or key} lacks the key 'kind'; it can be {', '.join(kinds)}"
    if kind == "union_tag_invalid":
        return f"there is no target kind {mistake['ctx']['tag']!r}; there are: {', '.join(kinds)}"
    subject = f"{key} = {_shown(value)} in {table}" if place else "the plan"
    if kind == "literal_error":
        return f"{subject} must be {mistake['ctx']['expected'].replace(' or ', ', ').replace(', ', ' or ')}"
    if kind == "value_error":
        reason = str(mistake["ctx"]["error"])
        return f"{table}: {reason}" if not place or isinstance(place[-1], int) else f"{subject}: {reason}"
    message = mistake["msg"].partition(", unable to parse")[0]
    message = message.replace("Input should be", "must be").replace("a valid", "a")
    message = (
        message.replace("valid integer", "whole number").replace("integer", "whole number").replace("string", "text")
    )
    return f"{subject} {message[:1].lower()}{message[1:]}"


def _words_for(place: Sequence[int | str]) -> tuple[str, str]:
    """("[[fault]] number 2", "at") for ("fault", 1, "at"); ("the plan", "seed") for ("seed",)."""
    if len(place) >= 2 and isinstance(place[1], int):
        return f"[[{place[0]}]] number {place[1] + 1}", ".".join(map(str, place[2:]))
    if len(place) >= 2:
        return f"[{place[0]}]", ".".join(map(str, place[1:]))
    return "the plan", ".".join(map(str, place))


def line_of(text: str, place: Sequence[int | str]) -> int | None:
    """The line of the key in the TOML text (or of its table); None when it is written in a way not understood here."""
    table: list[int | str] = []
    counts: dict[str, int] = {}
    best: int | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([A-Za-z0-9_.\"-]+)\s*\]\]?", line)
        if header:
            name = header[2]
            table = list(name.split("."))
            if header[1] == "[[":
                table = [name, counts.get(name, 0)]
                counts[name] = counts.get(name, 0) + 1
            if table and list(place[: len(table)]) == table:
                best = number
            continue
        key = re.match(r"\s*\"?([^\"=\s]+)\"?\s*=", line)
        if key and [*table, key[1]] == list(place[: len(table) + 1]):
            return number
    return best


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 60 else text[:57] + "..."
