"""The run directory: everything a run leaves behind, and the contract between all rooms.

Users, supervisor, judge and report never call each other: they write and read files here. Every process of a
run writes files of its own (``operations/<process>.msgpack`` and so on), so nothing is shared for writing and
whatever was written survives the process that wrote it.
"""

import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

RUN_JSON = "run.json"
FAULTS_JSONL = "faults.jsonl"
VERDICT_JSON = "verdict.json"
COUNTEREXAMPLE_JSON = "counterexample.json"
PROGRESS_JSONL = "progress.jsonl"
LEADERSHIP_JSONL = "leadership.jsonl"
LATENCY_HLOG = "latency.hlog"
REQUESTS_CSV = "requests.csv"
REQUESTS_JSON = "requests.json"
OUTAGES_CSV = "outages.csv"
REPORT_HTML = "report.html"
JUNIT_XML = "junit.xml"
CONTROL_SOCKET = "control.sock"

#: The name under the root that always points at the newest run.
LATEST = "latest"


class RunDirectoryError(Exception):
    """A run directory that is missing or cannot be used; the text is one sentence for a person."""


class RunDirectory:
    """One run's folder. ``create`` makes a new one under ``root``; ``open`` takes an existing one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, root: Path | str, name: str) -> "RunDirectory":
        """Make ``root/<time>-<name>`` and point ``root/latest`` at it. Errors: RunDirectoryError."""
        root = Path(root)
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "run"
        stamp = time.strftime("%Y%m%d-%H%M%S")
        try:
            root.mkdir(parents=True, exist_ok=True)
            path = _make_unique(root, f"{stamp}-{slug}")
            run = cls(path)
            run.prepare()
            _point_latest_at(root, path)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot create a run directory under {root}: {error.strerror or error}; choose another with --out"
            ) from error
        return run

    @classmethod
    def open(cls, path: Path | str) -> "RunDirectory":
        """Take an existing run directory. Errors: RunDirectoryError when there is none."""
        path = Path(path)
        if not path.exists():
            raise RunDirectoryError(f"there is no run directory {path}; `ls runs/` shows what there is")
        if not path.is_dir():
            raise RunDirectoryError(f"{path} is a file, not a run directory")
        run = cls(path.resolve())
        if not run.operations_dir.is_dir() and not run.file(RUN_JSON).exists():
            raise RunDirectoryError(f"{path} holds no run: it has neither {RUN_JSON} nor operations/")
        return run

    def prepare(self) -> None:
        """Make the folders that several processes write into."""
        for folder in (self.operations_dir, self.latency_dir, self.violations_dir, self.nodes_dir):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def operations_dir(self) -> Path:
        return self.path / "operations"

    @property
    def latency_dir(self) -> Path:
        return self.path / "latency"

    @property
    def violations_dir(self) -> Path:
        return self.path / "violations"

    @property
    def nodes_dir(self) -> Path:
        return self.path / "nodes"

    def file(self, name: str) -> Path:
        return self.path / name

    def write_json(self, name: str, value: Any) -> None:
        """Write ``name`` so that a reader sees the old file or the new one, never a half."""
        write_atomically(self.path / name, json.dumps(value, indent=2, default=str) + "\n")

    def read_json(self, name: str) -> Any:
        """The parsed file, or None when it does not exist. Errors: RunDirectoryError when it is not JSON."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise RunDirectoryError(f"{path} is not valid JSON: {error}") from error

    def update_json(self, name: str, values: dict[str, Any]) -> None:
        """Merge ``values`` into the object in ``name`` (one writer at a time is assumed)."""
        self.write_json(name, {**(self.read_json(name) or {}), **values})


def write_atomically(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)  # Ctrl-C may come when it has taken its place already
        raise


def _make_unique(root: Path, stem: str) -> Path:
    for number in range(1, 1000):
        path = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise FileExistsError(0, f"a thousand directories named {stem} exist already")


def _point_latest_at(root: Path, path: Path) -> None:
    """Move the ``latest`` link in one step; a file of that name which is not ours is left alone."""
    link = root / LATEST
    if link.exists() and not link.is_symlink():
        return
    temporary = root / f".{LATEST}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(path.name)
    os.replace(temporary, link)
