"""What the documents name exists: options, files, modules, constants, sections that links lead to."""

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import typer.main

from swarmproof.cli import app
from swarmproof.plan import built_in_plans
from tests.documents.commands import DOCUMENTS, all_commands
from tests.processes import ROOT

#: Options of other people's programs that the documents speak of.
FOREIGN = frozenset({"--help", "--build", "--scale", "--html", "--require-hashes", "--coverage", "--verbose"})
FOREIGN |= {"--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url", "--universal"}
FOREIGN |= {"--python-version", "--extra", "--no-install-recommends"}
#: Files that a run, a reader or a machine makes.
MADE_ELSEWHERE = re.compile(
    r"runs/|test-reports/|operations/|latency/|violations/|nodes/|data/|lines/|h:p|\.venv|path/|text/|host|/metrics"
)
ROOMS = "protocols|records|servers|users|swarmproof|locustfiles|plans|tests|benchmarks|scripts|docs|deploy"
SHELL_TEXT = "\n".join(shown.command for shown in all_commands())


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^ *(`{3,}).*?^ *\1$", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def known_options() -> frozenset[str]:
    """Of our commands, our scripts and servers, and of Locust."""
    found = set(FOREIGN)

    def gather(command: object) -> None:
        for parameter in getattr(command, "params", []):
            found.update([*parameter.opts, *parameter.secondary_opts])
        for child in getattr(command, "commands", {}).values():
            gather(child)

    gather(typer.main.get_command(app))
    for room in ("servers", "users", "swarmproof", "benchmarks", "locustfiles", "tests"):
        for source in (ROOT / room).rglob("*.py"):
            text = source.read_text(encoding="utf-8")
            found.update(re.findall(r"""["'](--[a-z][a-z0-9-]+)["' =]""", text))
            if room == "users":  # options.offer("payload_bytes"), and the table in users/options.py
                found.update(
                    "--" + name.replace("_", "-")
                    for name in re.findall(r'(?:OPTIONS\[)?"([a-z][a-z0-9_]+)"(?:\] =|:) \{', text)
                )
    scripts = "".join(script.read_text(encoding="utf-8") for script in (ROOT / "scripts").glob("*.sh"))
    found.update(re.findall(r"--[a-z][a-z-]+", scripts))
    # Locust's parser, asked in a process of its own: importing it for real would patch this one.
    program = "from locust.argument_parser import get_parser; print(get_parser(default_config_files=[]).format_help())"
    helped = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    found.update(re.findall(r"--[a-z][a-z-]+", helped.stdout))
    return frozenset(found)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_option_exists(path: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", " ".join(re.findall(r"`[^`]+`", prose(path)))))
    assert sorted(named - known_options()) == []


def test_every_option_of_a_shown_command_exists() -> None:
    assert sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", SHELL_TEXT)) - known_options()) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_exists(path: Path) -> None:
    names = re.findall(rf"`((?:{ROOMS})/[\w./-]*)`", prose(path))
    assert [name for name in names if not MADE_ELSEWHERE.match(name) and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_and_constant_exists(path: Path) -> None:
    text = prose(path)
    modules = set(re.findall(r"python3? -m ([a-z_][\w.]*)", text + SHELL_TEXT)) - {"pip", "venv", "servers.NAME"}
    assert [name for name in sorted(modules) if importlib.util.find_spec(name) is None] == []
    missing = []
    for dotted in re.findall(rf"`((?:{ROOMS})(?:\.\w+)+)[`(]", text):
        *parts, last = dotted.split(".")
        source = ROOT.joinpath(*parts).with_suffix(".py")
        if not ROOT.joinpath(*parts, last).with_suffix(".py").exists() and not ROOT.joinpath(*parts, last).is_dir():
            named = source.exists() and re.search(rf"\b{last}\b", source.read_text(encoding="utf-8"))
            if not named and last not in ("NAME", "toml", "py"):
                missing.append(dotted)
    assert missing == []


def test_every_command_named_in_a_sentence_exists() -> None:
    ours = typer.main.get_command(app)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wrong = []
    for path in DOCUMENTS:
        for spoken in re.findall(r"`([^`]+)`", prose(path)):
            words = spoken.split()
            if words[:1] == ["make"] and len(words) > 1 and words[1] not in targets:
                wrong.append(f"{path.name}: {spoken}")
            command = ours
            for word in words[1:] if words[:1] == ["swarmproof"] else []:
                children = getattr(command, "commands", {})
                if not children:
                    break
                if word not in children and re.fullmatch(r"[a-z-]+", word):
                    wrong.append(f"{path.name}: {spoken}")
                command = children.get(word)
    assert wrong == []


def test_every_built_in_plan_that_is_named_exists() -> None:
    named = {
        word
        for text in [SHELL_TEXT, *(prose(path) for path in DOCUMENTS)]
        for word in re.findall(r"swarmproof run ([a-z][a-z-]+)(?![\w.-])", text)
    }
    assert sorted(named - built_in_plans().keys()) == []


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_into_a_page_meets_a_heading(path: Path) -> None:
    for target, place in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", prose(path)):
        if target.startswith("http"):
            continue
        page = path if not target else path.parent / target
        headings = [anchor(line.lstrip("#")) for line in prose(page).splitlines() if line.startswith("#")]
        assert place in headings, f"{path.name} links to {target}#{place}; there are: {headings}"


def test_every_page_is_listed_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [str(path.relative_to(ROOT)) for path in DOCUMENTS if path.name != "README.md"]
    assert [page for page in pages if f"]({page})" not in readme] == []
