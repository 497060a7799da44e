"""docs/architecture.md shows the house as it is: every room, every folder in a room, every library with its reason."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib

from tests.processes import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: Tools that look at the code; the table is about what the product is built on.
TOOLS = frozenset({"import-linter", "mypy", "ruff", "pytest-timeout"})
#: Parts of a library that we asked for, and which one; the page says so.
COMES_WITH = {"flask": "locust", "flask-login": "locust", "werkzeug": "locust", "greenlet": "gevent"}
#: Names of modules that differ from those of their distributions.
DISTRIBUTIONS = {"hdrh": "hdrhistogram", "google_crc32c": "google-crc32c", "prometheus_client": "prometheus-client"}
DISTRIBUTIONS |= {"flask_login": "flask-login"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=~!\[; ]", requirement)[0] for requirement in requirements}


def table_rows(after: str) -> list[list[str]]:
    section = PAGE[PAGE.index(after) :].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_dependency_is_in_the_table_with_its_reason() -> None:
    project = PROJECT["project"]
    wanted = names(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted |= names(extra)
    rows = table_rows("## Built on libraries")
    listed = {word for row in rows for word in re.findall(r"[\w-]+", row[1])}
    assert sorted(wanted - TOOLS - listed) == []
    assert all(len(row) == 3 and len(row[2]) > 10 for row in rows), "a library without a reason"


def test_the_table_lists_nothing_that_is_not_a_dependency() -> None:
    project = PROJECT["project"]
    known = names(project["dependencies"]).union(*map(names, project["optional-dependencies"].values()))
    libraries = {
        part.strip().split()[0]
        for row in table_rows("## Built on libraries")
        for part in row[1].partition(":")[0].split(",")  # behind the colon: what comes with it
    }
    assert sorted(libraries - known - {"tomllib", "pinned"}) == []


def test_every_library_that_the_packages_import_is_a_dependency() -> None:
    """The lock installs more than pyproject asks for: what is imported must be asked for."""
    packages = ("protocols", "records", "servers", "users", "swarmproof", "locustfiles")
    project = PROJECT["project"]
    known = names(project["dependencies"]) | names(project["optional-dependencies"]["controls"])
    foreign = set()
    for package in packages:
        for source in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                modules = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                foreign |= {(module or "").split(".")[0] for module in modules}
    foreign -= {*packages, *sys.stdlib_module_names}
    asked_for = {DISTRIBUTIONS.get(name, name) for name in foreign}
    assert sorted(asked_for - known - COMES_WITH.keys()) == []
    for part in sorted(asked_for & COMES_WITH.keys()):
        assert part in names(importlib.metadata.requires(COMES_WITH[part]) or []), part
        assert re.search(rf"\b{part}\b", PAGE), part


def test_the_rooms_are_those_of_the_tree() -> None:
    rows = [row[0].strip("`") for row in table_rows("| room |")]
    assert [room for room in rows if not (ROOT / room).is_dir()] == []
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    folders = {line.partition("/")[0] + "/" for line in listed.splitlines() if "/" in line and line[0] != "."}
    assert sorted(folders - set(rows) - {"swarmproof/"}) == [], "folders of the repository that the table does not have"
    packages = {path.parent.name + "/" for path in ROOT.glob("*/__init__.py")} - {"tests/", "benchmarks/"}
    floors = {package + "/" for package in PROJECT["tool"]["importlinter"]["root_packages"]}
    assert sorted((packages | floors) - set(rows) - {"swarmproof/"}) == []
    inside = {f"swarmproof/{path.parent.name}/" for path in (ROOT / "swarmproof").glob("*/__init__.py")}
    assert sorted(inside - set(rows)) == [], "rooms of swarmproof/ that the table does not have"


def test_the_picture_has_every_floor() -> None:
    picture = PAGE[PAGE.index("## The rooms") : PAGE.index("Imports run downwards")]
    for room in PROJECT["tool"]["importlinter"]["root_packages"]:
        assert f"{room}/" in picture, room
