"""No test is left out by running the suite in parts."""

from pathlib import Path

from tests.side_by_side import LATER_PARTS, TESTS, parts


def test_the_parts_together_hold_every_test_file_once() -> None:
    found = []
    for place in (Path(place) for part in parts() for place in part):
        found += [place] if place.is_file() else list(place.rglob("test_*.py"))
    assert sorted(found) == sorted(TESTS.rglob("test_*.py"))


def test_every_folder_that_is_named_exists() -> None:
    assert all((TESTS / name).is_dir() for names in LATER_PARTS for name in names)
