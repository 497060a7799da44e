"""`make test`: the suite as three pytest processes side by side. Most of its time is waiting for other processes.

    python -m tests.side_by_side [PYTEST OPTION ...]

The first part is shown as it runs, the others when all have ended. The exit code is that of the worst part.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent

#: Folders of the parts that are shown at the end; everything else is in the first. About equally long.
LATER_PARTS = (
    frozenset({"users", "dishonest"}),
    frozenset(
        {"servers", "protocols", "raft_simulator", "judge", "records", "report", "seeds", "locustfiles", "end_to_end"}
    ),
)


def parts() -> list[list[str]]:
    """Paths of the parts; together they are every test there is."""
    places = [path for path in sorted(TESTS.iterdir()) if path.name.startswith("test_") or _has_tests(path)]
    later = [[str(path) for path in places if path.name in names] for names in LATER_PARTS]
    named = frozenset().union(*LATER_PARTS)
    return [[str(path) for path in places if path.name not in named], *later]


def _has_tests(path: Path) -> bool:
    return path.is_dir() and next(path.rglob("test_*.py"), None) is not None


def main(options: list[str]) -> int:
    first, *later = parts()
    command = [sys.executable, "-m", "pytest", *options]
    outputs = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in later]  # noqa: SIM115 - read below
    others = [
        subprocess.Popen([*command, *part], stdout=output, stderr=subprocess.STDOUT)
        for part, output in zip(later, outputs, strict=True)
    ]
    try:
        codes = [subprocess.run([*command, *first], check=False).returncode]
        codes += [other.wait() for other in others]
    except BaseException:
        for other in others:
            other.terminate()
            other.wait()
        raise
    for number, output in enumerate(outputs, 2):
        output.seek(0)
        text = output.read()
        output.close()
        print(text, flush=True)
        passed = re.findall(r"(\d+) passed", text.splitlines()[-1] if text else "")
        print(f"part {number}: {' '.join(passed) or 'none'} passed, exit code {codes[number - 1]}", flush=True)
    print(f"part 1 stands first: exit code {codes[0]}", flush=True)
    return max(abs(code) for code in codes)


if __name__ == "__main__":
    os.chdir(TESTS.parent)
    sys.exit(main(sys.argv[1:]))
