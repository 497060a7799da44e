"""Finds every command that the documents show, and the files that they ask the reader to save.

A command is a line of a fenced `console` block that begins with a prompt (`$ `, or a host's name and `$ `), or any
line of an `sh` block; a `\\` at its end joins the next line. What follows two spaces and a `#` is a comment. A file
is a fenced block with a name behind its language: ```` ```python shout.py ````.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
SHELLS = ("console", "sh")
_PROMPT = re.compile(r"(?:[a-z]+)?\$ +(.*)")
_COMMENT = re.compile(r"(?:^|\s{2,})#\s.*$")
#: Words that begin a command: a block of another kind that has one would not be looked at.
_PROGRAMS = re.compile(
    r"^ *(?:\$ |[A-Z_]+=\S+ )?(?:\.venv/bin/)?"
    r"(?:swarmproof [a-z-]+|locust -|python3? -m|make \w+|docker-compose |curl |pip |uv |scripts/\w)"
)


class Block(NamedTuple):
    """One fenced block: `info` is what stands behind the backticks."""

    document: str
    line: int
    info: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"


class Shown(NamedTuple):
    """A command as a document shows it, and the lines of output below it."""

    command: str
    output: tuple[str, ...]
    where: str


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a document, also indented ones."""
    lines = path.read_text(encoding="utf-8").splitlines()
    opened: tuple[int, str, str, int, list[str]] | None = None
    for number, line in enumerate(lines, 1):
        fence = re.match(r"( *)(`{3,})(.*)$", line)
        if opened is None:
            if fence:
                opened = (number, fence[2], fence[3].strip(), len(fence[1]), [])
        elif fence and fence[2] == opened[1] and not fence[3].strip():
            yield Block(str(path.relative_to(ROOT)), opened[0], opened[2], "\n".join(opened[4]) + "\n")
            opened = None
        else:
            opened[4].append(line[min(opened[3], len(line) - len(line.lstrip())) :])
    assert opened is None, f"{path}: the block of line {opened[0]} has no end"


def all_blocks() -> list[Block]:
    return [block for path in DOCUMENTS for block in blocks(path)]


def commands_of(block: Block) -> Iterator[Shown]:
    """The commands of a shell block, in order."""
    lines = block.text.splitlines()
    place = 0
    while place < len(lines):
        where = f"{block.document}:{block.line + 1 + place}"
        prompt = _PROMPT.fullmatch(lines[place])
        text = prompt[1] if prompt else lines[place]
        place += 1
        if prompt is None and (block.info.split()[0] == "console" or not _COMMENT.sub("", text).strip()):
            continue
        text = _COMMENT.sub("", text).rstrip()
        while text.endswith("\\") and place < len(lines):
            text = text[:-1].rstrip() + " " + _COMMENT.sub("", lines[place]).strip()
            place += 1
        output = []
        while block.info.split()[0] == "console" and place < len(lines) and not _PROMPT.fullmatch(lines[place]):
            output.append(lines[place])
            place += 1
        yield Shown(text.strip(), tuple(output), where)


def all_commands() -> list[Shown]:
    return [
        shown
        for block in all_blocks()
        if block.info.split()[:1] in ([s] for s in SHELLS)
        for shown in commands_of(block)
    ]


def files_of(document: str) -> dict[str, str]:
    """Name -> content of what a document asks the reader to save."""
    found = {}
    for block in blocks(ROOT / document):
        words = block.info.split()
        if len(words) == 2 and re.fullmatch(r"[\w.-]+\.[a-z]+", words[1]):
            found[words[1]] = found.get(words[1], "") + block.text
    return found


def stray_commands() -> list[str]:
    """Commands in blocks that are no shell blocks, where nobody would execute them."""
    found = []
    for path in DOCUMENTS:
        for block in blocks(path):
            if block.info.split()[:1] in ([s] for s in SHELLS):
                continue
            if block.info.split()[:1] in (["python"], ["toml"], ["json"], ["text"], ["diff"]):
                continue
            found += [f"{block.where}: {line}" for line in block.text.splitlines() if _PROGRAMS.match(line)]
        text = re.sub(r"^ *(`{3,}).*?^ *\1$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        found += [
            f"{path.name}: {line}" for line in text.splitlines() if line.startswith("    ") and _PROGRAMS.match(line)
        ]
    return found
