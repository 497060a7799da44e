"""No test is left out by running the suite in portions."""

from tests.side_by_side import FILES_TOGETHER, LONGEST_FIRST, TESTS, portions


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
