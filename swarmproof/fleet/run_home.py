"""Which run directory each test of a process writes into: a run directory holds one run.

Without `--run-dir` each test makes one under `runs/`. With it the first test has that directory, and one that is
started again from the web UI another beside it; where a supervisor is at work it makes that, for its faults go there,
too.
"""

import secrets
from pathlib import Path
from typing import Any

from records.run_directory import CONTROL_SOCKET, RunDirectory, RunDirectoryError
from swarmproof.control import ControlError, ask
from swarmproof.fleet.load_facts import scenario_of

_TOKEN = ".token"


class RunHome:
    """Made when the process begins: the options change with each test."""

    def __init__(self, parsed_options: Any) -> None:
        given = parsed_options and parsed_options.run_dir
        self._given = Path(given).absolute() if given else None
        self._last: RunDirectory | None = None

    @property
    def is_given(self) -> bool:
        """Whether the command line said where the records go."""
        return self._given is not None

    def next(self, options: Any) -> RunDirectory:
        """The directory of the test that begins now. Errors: RunDirectoryError."""
        self._last = self._choose(options)
        return self._last

    def _choose(self, options: Any) -> RunDirectory:
        if self._given is not None and self._last is not None:
            return _next_of_supervisor(self._given, options)
        if not (self._given or options.run_dir):
            return RunDirectory.create("runs", scenario_of(options))
        path = self._given or Path(options.run_dir)
        if self._last is not None and path.absolute() == self._last.path.absolute():
            # Started again from the web UI, whose form still has the directory of the last test.
            return RunDirectory.create(path.parent, scenario_of(options))
        run = RunDirectory(path.absolute())
        if any(run.latency_dir.glob("*")):
            raise RunDirectoryError(f"--run-dir {path} holds a run already; name another")
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            run.prepare()
        except OSError as error:
            raise RunDirectoryError(f"cannot use --run-dir {path}: {error.strerror}; name another") from error
        return run


def _next_of_supervisor(home: Path, options: Any) -> RunDirectory:
    if not (home / CONTROL_SOCKET).exists():
        return RunDirectory.create(home.parent, scenario_of(options))
    try:
        return RunDirectory(Path(ask(RunDirectory(home), {"command": "next-run"})["run"]))
    except (ControlError, KeyError) as error:
        raise RunDirectoryError(f"the test cannot begin: {error}") from error


def mark(run: RunDirectory) -> str:
    """Leave a token in the directory by which workers find out whether it is this machine's."""
    token = secrets.token_hex(8)
    run.file(_TOKEN).write_text(token, encoding="ascii")
    return token


def is_same_directory(directory: Path, token: str) -> bool:
    """Whether the master's run directory is this machine's too: its token is there to be read."""
    try:
        return bool(token) and (directory / _TOKEN).read_text(encoding="ascii") == token
    except OSError:
        return False
