"""`make test`: the suite as two pytest processes side by side. Most of its time is waiting, and there are two cores.

    python -m tests.halves [PYTEST OPTION ...]

The first half is shown as it runs, the second when both have ended. The exit code is that of the worse half.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent

#: Folders of the half that is shown at the end; everything else is in the first. About equally long.
SECOND_HALF = frozenset({"users", "seeds", "dishonest", "locustfiles", "end_to_end", "judge", "records", "report"})

NO_TESTS_COLLECTED = 5


def halves() -> tuple[list[str], list[str]]:
    """Paths of the two halves; together they are every test there is."""
    places = [path for path in sorted(TESTS.iterdir()) if path.name.startswith("test_") or _has_tests(path)]
    first = [str(path) for path in places if path.name not in SECOND_HALF]
    second = [str(path) for path in places if path.name in SECOND_HALF]
    return first, second


def _has_tests(path: Path) -> bool:
    return path.is_dir() and next(path.rglob("test_*.py"), None) is not None


def main(options: list[str]) -> int:
    first, second = halves()
    command = [sys.executable, "-m", "pytest", *options]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        other = subprocess.Popen([*command, *second], stdout=output, stderr=subprocess.STDOUT)
        try:
            code = subprocess.run([*command, *first], check=False).returncode
            other_code = other.wait()
        except BaseException:
            other.terminate()
            other.wait()
            raise
        output.seek(0)
        text = output.read()
    print(text, flush=True)
    passed = sum(int(number) for number in re.findall(r"(\d+) passed", text.splitlines()[-1] if text else ""))
    print(f"second half: {passed} passed, exit code {other_code}; first half above: exit code {code}", flush=True)
    return max(code, other_code)


if __name__ == "__main__":
    os.chdir(TESTS.parent)
    sys.exit(main(sys.argv[1:]))
