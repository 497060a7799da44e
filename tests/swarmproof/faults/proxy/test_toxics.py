"""Toxics in words."""

import pytest

from swarmproof.faults.proxy.toxics import TOXICS, Toxic, ToxicMistake, needs_frames, parse_bytes, parse_toxics


@pytest.mark.parametrize(
    ("text", "toxic"),
    [
        ("latency=50ms±10ms", Toxic("latency", "down", delay_s=0.05, jitter_s=0.01)),
        ("latency=50ms +- 10ms", Toxic("latency", "down", delay_s=0.05, jitter_s=0.01)),
        ("up:latency=1s", Toxic("latency", "up", delay_s=1.0)),
        ("jitter=10ms", Toxic("jitter", "down", jitter_s=0.01)),
        ("bandwidth=100KB/s", Toxic("bandwidth", "down", size_bytes=100_000)),
        ("slicer=64/10ms", Toxic("slicer", "down", size_bytes=64, delay_s=0.01)),
        ("corrupt=1%", Toxic("corrupt", "down", share=0.01)),
        ("limit-data=10KiB", Toxic("limit_data", "down", size_bytes=10_240)),
        ("duplicate=0.5", Toxic("duplicate", "down", share=0.5)),
        ("drop=5%", Toxic("drop", "down", share=0.05)),
        ("reset=mid", Toxic("reset", "down", mid_reply=True)),
    ],
)
def test_a_toxic_reads_like_an_assignment(text: str, toxic: Toxic) -> None:
    assert parse_toxics([text]) == (toxic,)


@pytest.mark.parametrize("text", ["drop", "stall", "timeout=2s", "reset", "reset=1s", "both:latency=1ms"])
def test_some_work_on_the_whole_connection(text: str) -> None:
    assert [toxic.direction for toxic in parse_toxics([text])] == ["up", "down"]


def test_the_default_direction_can_be_chosen() -> None:
    assert parse_toxics(["latency=1ms", "down:jitter=1ms"], "up")[0].direction == "up"


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["poison"], "there is no toxic 'poison'; there are: latency, jitter"),
        (["latency"], "latency needs a value; write it like latency=50ms"),
        (["latency=soon"], "is not a duration"),
        (["latency=2h"], "is not a latency"),
        (["bandwidth=fast"], "is not a size"),
        (["bandwidth=1MB/m"], "per second"),
        (["corrupt=0"], "a share lies above 0"),
        (["duplicate=150%"], "a share lies above 0"),
        (["drop="], "drop needs a value"),
        (["latency=1ms", "latency=2ms"], "stands twice"),
        (["sideways:latency=1ms"], "there is no toxic"),
    ],
)
def test_a_toxic_that_is_none_is_a_sentence(texts: list[str], words: str) -> None:
    with pytest.raises(ToxicMistake, match=words):
        parse_toxics(texts)


def test_every_example_is_understood() -> None:
    for _, example, _ in TOXICS.values():
        for text in example.replace(" or ", ", ").split(", "):
            assert parse_toxics([text])


def test_frame_toxics_are_known() -> None:
    assert needs_frames(parse_toxics(["swap=1%"]))
    assert needs_frames(parse_toxics(["drop=1%"]))
    assert not needs_frames(parse_toxics(["drop", "corrupt=1%"]))


def test_sizes() -> None:
    assert [parse_bytes(text) for text in ("64", "1.5KB", "1MiB")] == [64, 1500, 1048576]
