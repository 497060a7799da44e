"""Every command that the documents show is executed, in its place, and says what the document says."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from swarmproof.targets.ports import free_ports
from tests.components import require
from tests.documents.commands import Shown, all_commands, files_of, stray_commands
from tests.documents.scenes import ELSEWHERE, PORTS, SCENES, Scene, Step
from tests.processes import ROOT, wait_until
from tests.swarmproof.leftovers import MARK, await_nothing_left

SHOWN = all_commands()
AT_ONCE = 2
STEP_DEADLINE_S = 90.0
STOP_DEADLINE_S = 20.0
#: A machine that has more to do than it can: the run is right to say so, whatever the document shows.
BOTTLENECK = "the generator itself was the bottleneck"
UNKNOWN = 2
#: What a reader has in a checkout, without what earlier runs left there.
NOT_IN_THE_FOLDER = frozenset({".git", ".venv", "runs", "test-reports", "build"})


class Folder:
    """The folder of a scene, its ports, and what goes on in its background."""

    def __init__(self, path: Path, scene: Scene) -> None:
        self.path = path
        self.mark = secrets.token_hex(8)
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self._background: list[subprocess.Popen[bytes]] = []
        for entry in ROOT.iterdir():
            if entry.name not in NOT_IN_THE_FOLDER:
                (path / entry.name).symlink_to(entry)
        (path / ".venv").symlink_to(sys.prefix)
        for name, text in files_of(scene.document).items():
            (path / name).write_text(self._with_ports(text), encoding="utf-8")

    def run(self, step: Step) -> str:
        """What the step printed."""
        text = self._with_ports(step.typed or step.shown)
        output = self.path / f"output-{len(list(self.path.glob('output-*')))}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", text],
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
            )
        if step.stays:
            self._background.append(process)
            wait_until(lambda: step.stays in output.read_text("utf-8") or process.poll() is not None, text, 60)
            assert step.stays in output.read_text("utf-8"), f"$ {text}\n{output.read_text('utf-8')}"
        else:
            try:
                code = process.wait(STEP_DEADLINE_S)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
            starved = code == UNKNOWN and BOTTLENECK in output.read_text("utf-8")
            assert starved or code == step.code, f"$ {text}\nended with {code}\n{output.read_text('utf-8')}"
        said = output.read_text("utf-8")
        if BOTTLENECK in said:
            said = said.replace("verdict UNKNOWN", "verdict VALID (but for the generator)")
        for words in step.says:
            assert words in said, f"$ {text}\ndid not say {words!r}\n{said}"
        for port in self._ports:
            said = said.replace(self._ports[port], port)
        return said

    def close(self) -> None:
        """End what goes on in the background, and see that nothing is left of the whole scene."""
        for process in reversed(self._background):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
        deadline = time.monotonic() + STOP_DEADLINE_S
        for process in self._background:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        await_nothing_left(self.mark)

    def _with_ports(self, text: str) -> str:
        numbers = "|".join(self._ports)
        return re.sub(rf"(?<![\w.])({numbers})(?![\w.])", lambda match: self._ports[match[1]], text)

    def _environment(self) -> dict[str, str]:
        environment = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SWARMPROOF_ZOO")
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**environment, "PATH": path, "PYTHONUNBUFFERED": "1", MARK: self.mark}


def perform(name: str, path: Path) -> None:
    """All steps of a scene, in a folder of its own."""
    path.mkdir()
    folder = Folder(path, SCENES[name])
    try:
        for step in SCENES[name].steps:
            said = folder.run(step)
            if step.quoted:
                (quoted, *_) = [shown for shown in SHOWN if shown.command == step.shown and shown.output]
                assert_quoted(quoted, said)
    finally:
        folder.close()


@pytest.fixture(scope="module")
def performances(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[None]"]]:
    """The scenes that were asked for, two at a time: most of their time is waiting."""
    asked = [item.callspec.params["name"] for item in request.session.items if "performances" in item.fixturenames]
    able = [name for name in asked if all(shutil.which(program) for program in SCENES[name].needs)]
    stage = tmp_path_factory.mktemp("scenes")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(perform, name, stage / re.sub(r"\W", "-", name)) for name in able}


@pytest.mark.parametrize("name", SCENES)
def test_the_commands_of_a_scene_do_what_the_document_says(name: str, performances: dict[str, "Future[None]"]) -> None:
    for program in SCENES[name].needs:
        require(program)
    performances[name].result()


def plain(command: str) -> str:
    """The README names programs by their path, other pages expect them on PATH."""
    return command.replace(".venv/bin/", "")


def assert_quoted(shown: Shown, said: str) -> None:
    """The document's lines are those that were said, in order; "..." stands for any."""
    lines = iter(said.rstrip("\n").splitlines())
    anything = "swarmproof integration-test" in shown.command  # the document shows its last line
    for wanted in [line for line in shown.output if line.strip()]:
        if wanted == "...":
            anything = True
            continue
        got = next(lines, None)
        while anything and got is not None and got != wanted:
            got = next(lines, None)
        assert got == wanted, f"{shown.where} shows\n{wanted}\nbut it says\n{said}"
        anything = False


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.where)
def test_every_command_is_executed_or_excused(shown: Shown) -> None:
    executed = {plain(step.shown) for scene in SCENES.values() for step in scene.steps}
    assert plain(shown.command) in executed or shown.command in ELSEWHERE, (
        f"{shown.where} shows a command that nothing executes:\n    {shown.command}\n"
        "give it a step in SCENES of tests/documents/scenes.py, or an excuse in ELSEWHERE there"
    )


def test_no_scene_and_no_excuse_is_out_of_date() -> None:
    known = {shown.command for shown in SHOWN}
    steps = {step.shown for scene in SCENES.values() for step in scene.steps if step.shown}
    assert sorted(steps - known) == []
    assert sorted(ELSEWHERE.keys() - known) == []
    assert sorted(ELSEWHERE.keys() & steps) == []


def test_every_test_that_an_excuse_names_exists() -> None:
    for excuse in ELSEWHERE.values():
        for path, _, name in re.findall(r"(tests/[\w/]+\.py)(::(\w+))?", excuse):
            text = (ROOT / path).read_text(encoding="utf-8")
            assert not name or f"def {name}(" in text, f"{path} has no {name}"


def test_commands_stand_in_shell_blocks() -> None:
    assert stray_commands() == [], "a command must stand in a console or sh block, where it is executed"
