"""Pauses of the generator are taken before the load, not while replies are under way."""

import gc
import inspect
import os.path
from collections.abc import Iterator

import pytest

from swarmproof.fleet.pauses import take_pauses_now


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_the_stack_is_looked_at_once_before_locust_does(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[object] = []
    real = os.path.realpath

    def realpath(path: object, **options: object) -> object:
        resolved.append(path)
        return real(path, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(os.path, "realpath", realpath)
    for cache in ("modulesbyfile", "_filesbymodname"):  # as in a new process
        monkeypatch.setattr(inspect, cache, {})
    take_pauses_now()
    assert len(resolved) > 100, "every module there is"
    resolved.clear()
    inspect.stack()  # as Locust's Runner.stop
    assert resolved == []


def test_what_was_there_before_the_load_is_no_work_for_the_collector() -> None:
    take_pauses_now()
    assert len(gc.get_objects()) < 1_000 < gc.get_freeze_count()


def test_what_an_earlier_test_left_is_collected_before_the_next() -> None:
    class Kept:
        pass

    take_pauses_now()
    left = Kept()
    left.myself = left  # type: ignore[attr-defined]
    take_pauses_now()  # it is frozen while it is in use
    del left
    take_pauses_now()
    gc.unfreeze()
    assert not any(isinstance(found, Kept) for found in gc.get_objects())
