"""Structured log lines on stderr: `2026-01-01T00:00:00.000Z INFO event key=value ...`.

One line per event, keys in the order given, values quoted as JSON strings when they hold anything but plain
characters. A flood of bad clients must not become a flood of lines (stderr may be a slow pipe, and a write that
blocks stops every connection), so each event name has a budget of lines per second; what was withheld is counted
and said in one line of its own.
"""

import json
import re
import sys
import time
from typing import TextIO

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Enough to see who misbehaves and how; two hundred attackers reconnecting as fast as they can write no more.
LINES_PER_EVENT_PER_S = 50
# A value longer than this says nothing more to a reader.
MAX_VALUE_CHARACTERS = 300

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+\-\[\],%]+\Z")


def format_value(value: object) -> str:
    """A value as it stands in a line: plain when it can be, a JSON string (ASCII, one line) otherwise.

    >>> format_value(3), format_value("frame too large"), format_value(0.25)
    ('3', '"frame too large"', '0.25')
    """
    if isinstance(value, float):
        return format(value, ".6g")
    text = str(value)
    if len(text) > MAX_VALUE_CHARACTERS:
        text = text[:MAX_VALUE_CHARACTERS] + "..."
    return text if _PLAIN.match(text) else json.dumps(text)


class EventLog:
    """Writes event lines of at least `level` to `stream`; never raises, and never more than the budget.

    >>> log = EventLog()
    >>> log.warning("connection_closed", peer="127.0.0.1:5000", reason="frame too large")
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        level: str = "info",
        lines_per_event_per_s: int = LINES_PER_EVENT_PER_S,
    ) -> None:
        self._stream = stream
        self._threshold = LEVELS[level]
        self._budget = lines_per_event_per_s
        # event -> [the second it counts, lines in it, withheld in it]; event names are literals in the code, so
        # this table is as bounded as the code is.
        self._spent: dict[str, list[int]] = {}

    def set_level(self, level: str) -> None:
        self._threshold = LEVELS[level]

    def debug(self, event: str, **fields: object) -> None:
        self._write("DEBUG", 10, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._write("INFO", 20, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("WARNING", 30, event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("ERROR", 40, event, fields)

    def flush(self) -> None:
        """Say what was withheld so far; called when the process ends."""
        for event, spent in self._spent.items():
            self._say_withheld(event, spent)

    def _write(self, name: str, level: int, event: str, fields: dict[str, object]) -> None:
        if level < self._threshold or not self._within_budget(event):
            return
        pairs = "".join(f" {key}={format_value(value)}" for key, value in fields.items())
        self._put(f"{name} {event}{pairs}")

    def _within_budget(self, event: str) -> bool:
        second = int(time.monotonic())
        spent = self._spent.get(event)
        if spent is None:
            spent = self._spent[event] = [second, 0, 0]
        elif spent[0] != second:
            self._say_withheld(event, spent)
            spent[0], spent[1] = second, 0
        if spent[1] >= self._budget:
            spent[2] += 1
            return False
        spent[1] += 1
        return True

    def _say_withheld(self, event: str, spent: list[int]) -> None:
        if spent[2]:
            withheld, spent[2] = spent[2], 0
            self._put(f"WARNING lines_withheld event={event} count={withheld}")

    def _put(self, text: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        stream = self._stream if self._stream is not None else sys.stderr
        try:
            stream.write(f"{stamp}.{int(now * 1000) % 1000:03d}Z {text}\n")
            stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads stderr any more: a server does not end for that


# The one log of a server process; tests make their own.
log = EventLog()
