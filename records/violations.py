"""Replies that were not what the request asked for: counted all, the first of each kind kept with bytes."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from records.run_directory import RunDirectory, RunDirectoryError

UNKNOWN_ID = "reply with an unknown id"
DUPLICATE = "duplicate reply"
LATE = "late reply"
CROSSED = "reply on the wrong connection"
PAYLOAD = "payload mismatch"
VERSION = "wrong version"
SHAPE = "malformed reply"
MISSING = "missing reply"
TIMESTAMP = "timestamp altered"
ACK = "wrong acknowledgement"
TYPE = "wrong message type"

#: Told for completeness, no fault of the server: an answer that came after its request had timed out.
INFORMATIONAL = frozenset({LATE})

#: Examples kept of each kind: enough to see the pattern, bounded whatever the server does.
EXAMPLES_PER_KIND = 100

#: Bytes kept of an expected or received payload.
EXAMPLE_BYTES = 256


@dataclass(slots=True)
class Violation:
    """One reply (or missing reply) that broke the protocol. ``at_ns`` is monotonic."""

    kind: str
    operation: str
    detail: str = ""
    request_id: int | str | None = None
    connection: str = ""
    expected: bytes = b""
    got: bytes = b""
    at_ns: int = 0
    process: str = ""


class ViolationLog:
    """Counts violations and keeps the first of each kind. Without a path it only counts."""

    def __init__(self, path: Path | None = None, process: str = "") -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.examples: list[Violation] = []
        self._per_kind: Counter[str] = Counter()
        self._process = process
        self._file: IO[str] | None = path.open("a", encoding="utf-8") if path else None
        self._dirty = False

    def add(
        self,
        kind: str,
        operation: str,
        detail: str = "",
        *,
        request_id: int | str | None = None,
        connection: str = "",
        expected: bytes = b"",
        got: bytes = b"",
        at_ns: int | None = None,
    ) -> None:
        """Count one violation of ``kind`` (a constant of this module) seen by ``operation``."""
        self.counts[kind, operation] += 1
        self._dirty = True
        if self._per_kind[kind] >= EXAMPLES_PER_KIND:
            return
        self._per_kind[kind] += 1
        violation = Violation(
            kind,
            operation,
            detail,
            request_id,
            connection,
            bytes(expected[:EXAMPLE_BYTES]),
            bytes(got[:EXAMPLE_BYTES]),
            time.monotonic_ns() if at_ns is None else at_ns,
            self._process,
        )
        self.examples.append(violation)
        if self._file:
            line = asdict(violation) | {"expected": violation.expected.hex(), "got": violation.got.hex()}
            self._file.write(json.dumps(line) + "\n")
            self.flush()

    def flush(self) -> None:
        """Write the counts so far; the last such line of a file holds."""
        if self._file and self._dirty:
            counts = [[kind, operation, number] for (kind, operation), number in self.counts.items()]
            self._file.write(json.dumps({"counts": counts}) + "\n")
            self._file.flush()
            self._dirty = False

    def close(self) -> None:
        if self._file:
            self.flush()
            self._file.close()
            self._file = None


def read_violations(run: RunDirectory) -> tuple[Counter[tuple[str, str]], list[Violation]]:
    """Counts by (kind, operation) and the kept examples, over all processes of a run.

    The last line of a process that was killed may be half; of what it had not yet counted, the examples count.
    Errors: RunDirectoryError for a file that holds something else: a violation must not be overlooked.
    """
    counts: Counter[tuple[str, str]] = Counter()
    examples: list[Violation] = []
    for path in sorted(run.violations_dir.glob("*.jsonl")):
        counted: Counter[tuple[str, str]] = Counter()
        seen: Counter[tuple[str, str]] = Counter()
        lines = path.read_bytes().split(b"\n")
        for number, text in enumerate(lines, 1):
            if not text or (number == len(lines) and text.startswith(b"{") and not text.endswith(b"}")):
                continue
            try:
                line = json.loads(text)
                if "counts" in line:
                    counted = Counter({(str(kind), str(name)): int(times) for kind, name, times in line["counts"]})
                    continue
                example = _example(line)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise RunDirectoryError(f"{path} is damaged: line {number} is no record of a violation") from error
            seen[example.kind, example.operation] += 1
            examples.append(example)
        counts.update(counted | seen)  # the larger of both
    examples.sort(key=lambda violation: violation.at_ns)
    return counts, examples


def _example(line: dict[str, Any]) -> Violation:
    """Errors: ValueError, TypeError, KeyError, AttributeError for what is none."""
    values = {item.name: line[item.name] for item in fields(Violation) if item.name in line}
    values |= {side: bytes.fromhex(line.get(side, "")) for side in ("expected", "got")}
    example = Violation(**values)
    if not (isinstance(example.kind, str) and isinstance(example.operation, str) and isinstance(example.at_ns, int)):
        raise TypeError("a violation has a kind, an operation and a time")
    return example
