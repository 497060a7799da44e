"""No test is left out by running the suite in portions; one that fails is tried once more, and no failure is hidden."""

from pathlib import Path

import pytest

from tests import side_by_side
from tests.side_by_side import FILES_TOGETHER, FLAKY_AT_MOST, LONGEST_FIRST, TESTS, Suite, portions

BROKEN = "def test_broken():\n    assert False\n"
FLAKY = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("what", ["a - b", "c"])
def test_only_alone(what):
    mark = Path(__file__).with_suffix(".ran-" + what[0])
    if not mark.exists():
        mark.touch()
        raise OSError("the port was taken")
"""


def test_the_portions_together_hold_every_test_file_once() -> None:
    found = sorted(TESTS / place for portion in portions() for place in portion)
    assert found == sorted(path for path in TESTS.rglob("test_*.py") if "node_modules" not in path.parts)


def test_a_portion_is_a_few_files_of_one_folder() -> None:
    for portion in portions():
        assert 0 < len(portion) <= FILES_TOGETHER
        assert len({place.rpartition("/")[0] for place in portion}) == 1


def test_every_folder_that_is_named_exists_and_goes_first() -> None:
    assert all((TESTS / name).is_dir() for name in LONGEST_FIRST)
    assert portions()[0][0].startswith(LONGEST_FIRST[0])


def play(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> tuple[int, Suite]:
    """A suite of these files, through `main`."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(side_by_side, "portions", lambda: [[f"{name}.py"] for name in files])
    monkeypatch.setattr(side_by_side, "TESTS", folder)
    monkeypatch.chdir(folder)
    made: list[Suite] = []

    def suite(options: list[str]) -> Suite:
        made.append(Suite([*options, "--rootdir", str(folder), "-c", "/dev/null"]))
        return made[0]

    monkeypatch.setattr(side_by_side, "Suite", suite)
    return side_by_side.main([]), made[0]


def test_a_test_that_passes_alone_is_named_and_a_broken_one_still_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = play(tmp_path, monkeypatch, test_flaky=FLAKY, test_good="def test_good(): pass\n")
    told = capsys.readouterr().out
    assert code == 0
    assert "OSError: the port was taken" in told
    for what in ("a - b", "c"):
        assert f"FLAKY: failed beside others and passed alone, mend it: test_flaky.py::test_only_alone[{what}]" in told
    assert "3 passed in" in told
    for mark in tmp_path.glob("*.ran-*"):
        mark.unlink()
    code, suite = play(tmp_path, monkeypatch, test_flaky=FLAKY, test_bad=BROKEN)
    assert code == 1
    assert [one.portion for one in suite.ended if one.code] == [["test_bad.py"], ["test_bad.py"]]
    assert "FAILED with exit code 1: test_bad.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("many", BROKEN + "".join(f"def test_{n}(): assert False\n" for n in range(FLAKY_AT_MOST))),
        ("cannot be imported", "import nothing_of_this_name\n"),
        ("no test at all", ""),
    ],
)
def test_what_is_no_accident_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    code, suite = play(tmp_path, monkeypatch, test_it=text)
    assert code > 0, name
    assert len(suite.ended) == 1
