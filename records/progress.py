"""One line a second from the load generator's master: ``progress.jsonl``, read live by whoever shows it."""

import json
from pathlib import Path
from typing import IO, Any

from records.run_directory import PROGRESS_JSONL, RunDirectory


class ProgressWriter:
    """Appends one JSON object a line; each line is complete before it can be read."""

    def __init__(self, run: RunDirectory) -> None:
        self._file: IO[str] | None = run.file(PROGRESS_JSONL).open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


class ProgressReader:
    """Reads what has been added since the last call; a file that does not exist yet has no lines.

    Lines that hold no JSON object are left out: whoever wrote them was not the load generator.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._path: Path = run.file(PROGRESS_JSONL)
        self._offset = 0

    def read_new(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [line for text in data[:end].splitlines() if (line := _object_in(text)) is not None]


def _object_in(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
