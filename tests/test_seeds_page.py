"""docs/seeds.md cannot rot: every test, file and command that it names is there."""

import re
import subprocess
import sys

import pytest

from tests.processes import ROOT

PAGE = (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
FILES = sorted(set(re.findall(r"`((?:tests|servers|users|swarmproof|scripts|locustfiles)/[\w/.-]+)`", PAGE)))
MODULES = sorted(set(re.findall(r"`python -m ([\w.]+)", PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| the seed |")]
COMMANDS = sorted(set(re.findall(r"`swarmproof ([a-z-]+)", PAGE)))


def test_the_page_names_much() -> None:
    assert len(TESTS) > 40
    assert len(FILES) > 10
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize(("path", "name"), TESTS, ids=lambda part: part.rpartition("/")[2])
def test_a_test_of_the_page_exists(path: str, name: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{path} has no {name}"


def test_the_files_of_the_page_exist() -> None:
    assert [path for path in FILES if not (ROOT / path).exists()] == []


def test_the_commands_of_the_page_exist() -> None:
    command = [sys.executable, "-m", "swarmproof.cli", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True).stdout
    assert [name for name in COMMANDS if name not in text] == []


def test_the_modules_of_the_page_exist() -> None:
    assert [name for name in MODULES if not (ROOT / (name.replace(".", "/") + ".py")).exists()] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:40])
def test_every_line_of_the_seeds_names_what_shows_it(row: str) -> None:
    """A test, a file, a command, a page, or the test of the line above; or it says why not."""
    line, shown = row.strip("| ").split(" | ", 1)
    assert line
    evidence = (
        r"`(tests|servers|users|scripts|swarmproof|python|locust|make|op|\.ci|-)|\]\(|same test|tests above|not kept"
    )
    assert re.search(evidence, shown), row
