"""What the documents show works: their links lead somewhere, their plans are valid, their code is the tested code."""

import re
from pathlib import Path

import pytest

from swarmproof.plan import built_in_plans, parse_plan
from tests.processes import ROOT

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def _blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\b[^\n]*\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_plan_is_valid(path: Path) -> None:
    for text in _blocks(path, "toml"):
        if "[load]" in text:
            assert parse_plan(text, path.name).load.locustfile


def test_the_line_protocol_in_the_tutorial_is_the_one_that_is_tested() -> None:
    tutorial = "\n".join(_blocks(ROOT / "docs" / "your-own-protocol.md", "python"))
    tested = (ROOT / "tests" / "users" / "line_scenario.py").read_text(encoding="utf-8")
    codec = tested[tested.index("class LineCodec") : tested.index("class LineUser")].strip()
    assert codec in tutorial
    for line in (
        "def check(self, sent: bytes, received: bytes) -> str:",
        'self.client.request(b"hello", name="capitals")',
    ):
        assert line in tutorial
        assert line in tested


def test_every_scenario_and_built_in_plan_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for scenario in re.findall(r"locustfiles/\w+\.py", text):
        assert (ROOT / scenario).exists()
    for plan in ("demo", "raft-failover", "envelope"):
        assert plan in built_in_plans()


def test_every_picture_is_shown_somewhere() -> None:
    """That each picture which is shown exists, `test_every_link_leads_somewhere` sees."""
    shown = {
        (path.parent / target).resolve()
        for path in DOCUMENTS
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    }
    pictures = set((ROOT / "docs" / "images").iterdir())
    assert sorted(pictures - shown) == []
    assert (ROOT / "docs" / "images" / "report.png") in shown


def test_nothing_speaks_of_a_machine_it_was_made_on() -> None:
    for path in DOCUMENTS:
        assert "/work/" not in path.read_text(encoding="utf-8"), path
