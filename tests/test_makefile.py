"""`make setup` on machines where something is missing or was interrupted; a script stands for Python."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT

DEADLINE_S = 60

WITH_VENV = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
    rm -rf "$4"; mkdir -p "$4/bin"; printf '#!/bin/sh\\n' >"$4/bin/python"; chmod +x "$4/bin/python"; echo "$3" >made
fi
"""
WITHOUT_VENV = """#!/bin/sh
case "$*" in
    "-m venv"*) mkdir -p .venv/bin; echo "ensurepip is not available"; exit 1;;
    *ensurepip*) exit 1;;
esac
"""
BROKEN = "#!/bin/sh\nexit 1\n"


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    return tmp_path


def make_setup(project: Path, python: str) -> subprocess.CompletedProcess[str]:
    executable(project / "python", python)
    command = ["make", "setup", "PYTHON=./python"]
    # The tests themselves may have been started by a make, whose flags are not this one's.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        command, cwd=project, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_python_without_venv_is_one_sentence_with_the_package_to_install(project: Path) -> None:
    done = make_setup(project, WITHOUT_VENV)
    assert done.returncode == 2
    assert "./python has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" in done.stderr
    assert len(done.stderr.splitlines()) == 2, "the sentence, and that make failed"
    assert not (project / ".venv").exists()


def test_a_half_made_environment_is_made_anew(project: Path) -> None:
    executable(project / ".venv" / "bin" / "python", BROKEN)
    done = make_setup(project, WITH_VENV)
    assert done.returncode == 0, done.stderr
    assert (project / "made").read_text() == "--clear\n"


def test_a_whole_environment_is_kept(project: Path) -> None:
    assert make_setup(project, WITH_VENV).returncode == 0
    (project / "made").unlink()
    (project / ".venv" / ".installed").unlink()
    assert make_setup(project, WITH_VENV).returncode == 0
    assert not (project / "made").exists()
