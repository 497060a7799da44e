"""`make test`: the suite in portions, three pytest processes side by side. Most of its time is waiting for others.

    python -m tests.side_by_side [PYTEST OPTION ...]

A portion is a few test files of one folder. Whoever is free takes the next; the long ones go first. Each is shown when
it has ended, and the slowest of all in the end. The exit code is that of the worst portion.

A test that failed beside two others is tried once more when the machine is its own, if few failed. One that passes
then is named in the last lines as flaky, its first failure shown above: it lets a change land, and is a bug to mend.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent

#: pytest's exit code when tests failed; any other is no verdict on a test.
TESTS_FAILED = 1

#: More failed tests than these are no accident of timing: nothing is tried again.
FLAKY_AT_MOST = 3

#: Two cores do the work of three: each spends most of its time waiting for processes that start, run and end.
AT_ONCE = 3

#: So many files share one process: starting it costs two seconds, and a portion that is too long ends last and alone.
FILES_TOGETHER = 4

#: Folders whose portions take minutes, the longest first; all others follow.
LONGEST_FIRST = (
    "swarmproof",
    "fleet",
    "end_to_end",
    "users",
    "dishonest",
    "users/engine",
    "documents",
    "locustfiles",
    "seeds",
    "fleet/web",
    "zoo",
    "swarmproof/faults",
    "swarmproof/acceptance",
    "servers/raft",
)


class Ended(NamedTuple):
    """One portion, and what became of it."""

    portion: list[str]
    code: int
    seconds: float
    cpu_s: float
    passed: int
    failed: frozenset[str]


def portions() -> list[list[str]]:
    """Paths of test files, from TESTS; together they are every one there is."""
    folders: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        if "node_modules" not in path.parts:
            place = path.relative_to(TESTS)
            folders.setdefault(str(place.parent), []).append(str(place))

    def rank(folder: str) -> int:
        return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)

    return [
        folders[folder][start : start + FILES_TOGETHER]
        for folder in sorted(folders, key=rank)
        for start in range(0, len(folders[folder]), FILES_TOGETHER)
    ]


class Suite:
    """The portions that are left, and those that have ended."""

    def __init__(self, options: list[str]) -> None:
        self._command = [sys.executable, "-m", "pytest", *options]
        # The tests start a thousand processes. Without byte code on disk each would compile the whole house anew.
        self._environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._left: Iterator[list[str]] = iter(portions())
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._is_stopped = False
        self.ended: list[Ended] = []

    def work(self) -> None:
        """Take one portion after the other until none is left."""
        while True:
            with self._lock:
                portion = next(self._left, None)
            if portion is None or not self.run(portion, [str(TESTS / place) for place in portion]):
                return

    def run(self, portion: list[str], tests: Iterable[str]) -> bool:
        """Play these tests of a portion, and tell what became of them; false if the suite was stopped before."""
        with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            began = time.monotonic()
            with self._lock:
                if self._is_stopped:
                    return False
                process = subprocess.Popen(
                    [*self._command, "-o", f"cache_dir={kept}", *tests],
                    env=self._environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                self._running.add(process)
            # Of the portion and of every process that it waited for.
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - began
            output.seek(0)
            text = output.read()
            failed = failures(Path(kept))
        with self._lock:
            self._running.discard(process)
            cpu_s = used.ru_utime + used.ru_stime
            self._tell(Ended(portion, process.returncode, seconds, cpu_s, passed(text), failed), text)
        return True

    def try_again(self) -> list[str]:
        """Play what failed once more, alone; names the tests that pass now, and counts their portions as passed."""
        failed = [one for one in self.ended if one.code]
        if any(one.code != TESTS_FAILED for one in failed) or sum(len(one.failed) for one in failed) > FLAKY_AT_MOST:
            return []
        flaky: list[str] = []
        for one in failed:
            print(f"once more, alone: {', '.join(sorted(one.failed))}", flush=True)
            if one.failed and self.run(one.portion, sorted(one.failed)) and self.ended[-1].code == 0:
                flaky.extend(sorted(one.failed))
                self.ended[self.ended.index(one)] = one._replace(code=0)
        return flaky

    def stop(self) -> None:
        """End what runs, with its fixtures torn down; nothing new begins."""
        with self._lock:
            self._is_stopped = True
            for process in self._running:
                process.send_signal(signal.SIGINT)

    def _tell(self, one: Ended, text: str) -> None:
        self.ended.append(one)
        lines = text.splitlines()
        for line in lines if one.code else (line for line in lines if line.startswith("SKIPPED")):
            print(line)
        took = f"{one.seconds:4.0f} s ({one.cpu_s:4.0f} s of CPU)"
        print(f"{one.passed:5} passed in {took}, exit code {one.code}: {', '.join(one.portion)}", flush=True)


def failures(cache: Path) -> frozenset[str]:
    """The ids of the tests that failed, as pytest itself keeps them for its `--last-failed`."""
    path = cache / "v" / "cache" / "lastfailed"
    return frozenset(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else frozenset()


def passed(text: str) -> int:
    """How many tests passed, by the last line that pytest printed."""
    lines = text.splitlines()
    found = re.search(r"(\d+) passed", lines[-1] if lines else "")
    return int(found[1]) if found else 0


def main(options: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # A shell lets what it starts in the background ignore SIGINT, and the portions would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    suite = Suite(options)
    workers = [threading.Thread(target=suite.work) for _ in range(AT_ONCE)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    flaky: list[str] = []
    last = threading.Thread(target=lambda: flaky.extend(suite.try_again()))
    try:
        for worker in workers:
            worker.join()
        last.start()
        last.join()
    except BaseException:
        suite.stop()
        for worker in (*workers, last):
            if worker.is_alive():
                worker.join()
        raise
    failed = [one for one in suite.ended if one.code]
    for one in sorted(suite.ended, key=lambda one: -one.seconds)[:5]:
        print(f"slowest: {one.seconds:4.0f} s  {', '.join(one.portion)}")
    for one in failed:
        print(f"FAILED with exit code {one.code}: {', '.join(one.portion)}")
    for name in flaky:
        print(f"FLAKY: failed beside others and passed alone, mend it: {name}")
    total = sum(one.passed for one in suite.ended)
    print(f"{total} passed in {time.monotonic() - began:.0f} s; {len(failed)} of {len(suite.ended)} portions failed")
    return max((abs(one.code) for one in suite.ended), default=1)


if __name__ == "__main__":
    os.chdir(TESTS.parent)
    sys.exit(main(sys.argv[1:]))
