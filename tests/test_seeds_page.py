"""docs/seeds.md cannot rot: every test, file and command that it names is there."""

import re
import subprocess
import sys

import pytest

from tests.processes import ROOT

PAGE = (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")
# What is announced as not yet there is not looked for, up to the next "until then" or semicolon.
SHOWN = re.sub(r"\*\*not yet\*\*[^|;]*", "", PAGE)
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SHOWN)))
FILES = sorted(set(re.findall(r"`((?:tests|servers|users|swarmproof|scripts|locustfiles)/[\w/.-]+)`", SHOWN)))
COMMANDS = sorted(set(re.findall(r"`swarmproof ([a-z-]+)", SHOWN)))


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
