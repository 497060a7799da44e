"""No test is left out by running the suite in two halves."""

from pathlib import Path

from tests.halves import SECOND_HALF, TESTS, halves


def test_the_halves_together_hold_every_test_file_once() -> None:
    first, second = halves()
    found = []
    for place in map(Path, [*first, *second]):
        found += [place] if place.is_file() else list(place.rglob("test_*.py"))
    assert sorted(found) == sorted(TESTS.rglob("test_*.py"))


def test_every_folder_that_is_named_exists() -> None:
    assert all((TESTS / name).is_dir() for name in SECOND_HALF)
