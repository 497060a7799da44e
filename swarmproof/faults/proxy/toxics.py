"""What can be done to a link, in words: `latency=50ms±10ms`, `up:bandwidth=100KB/s`, `reset=mid`.

The list is Toxiproxy's, and what a byte stream of frames allows beyond it. `up` is from the one who dials to the one
who listens (requests), `down` is the way back (replies).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from swarmproof.durations import parse_duration_s

Direction = Literal["up", "down"]
DIRECTIONS: Final[Sequence[Direction]] = ("up", "down")
MID_REPLY: Final = "mid"
MAX_LATENCY_S = 3600.0
MAX_BYTES = 1 << 40
# In which direction a toxic works when nothing is said: replies, as in Toxiproxy, or the whole connection.
WHOLE_CONNECTION: Final = frozenset({"drop", "stall", "timeout", "reset"})
# With these, as long as they are not about a share of the frames, nothing is carried.
SILENT_TOXICS: Final = frozenset({"drop", "stall", "timeout"})
FRAME_TOXICS: Final = frozenset({"duplicate", "reorder", "swap"})

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?", re.IGNORECASE)
_UNIT_BYTES = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


class ToxicMistake(ValueError):
    """A toxic that cannot be understood; the text is one sentence with what is allowed."""


class Toxic(NamedTuple):
    """One thing done to one direction of a link. Which fields count depends on `kind`."""

    kind: str
    direction: Direction
    delay_s: float = 0.0  # latency; until timeout and reset; between slices
    jitter_s: float = 0.0
    size_bytes: int = 0  # bandwidth (per second), limit_data, slicer
    share: float = 1.0  # of the frames (duplicate, reorder, swap, drop) or of the pieces (corrupt)
    mid_reply: bool = False


def parse_toxics(texts: Iterable[str], default: Direction = "down") -> tuple[Toxic, ...]:
    """Toxics of a link; a kind stands at most once in each direction. Errors: ToxicMistake."""
    found: dict[tuple[str, Direction], Toxic] = {}
    for text in texts:
        for toxic in parse_toxic(text, default):
            place = (toxic.kind, toxic.direction)
            if place in found:
                raise ToxicMistake(f"{toxic.kind} stands twice for the direction {toxic.direction}; give it once")
            found[place] = toxic
    return tuple(found.values())


def merge_toxics(texts: Iterable[str]) -> tuple[Toxic, ...]:
    """Toxics that several faults have put on one link: of a kind, the last one counts. Errors: ToxicMistake."""
    found = {(toxic.kind, toxic.direction): toxic for text in texts for toxic in parse_toxic(text)}
    return tuple(found.values())


def parse_toxic(text: str, default: Direction = "down") -> list[Toxic]:
    """`latency=50ms±10ms` as one Toxic, or two when it works in both directions. Errors: ToxicMistake."""
    words = text.strip()
    directions: Sequence[Direction] | None = None
    prefix, colon, rest = words.partition(":")
    if colon and prefix.lower() in ("up", "down", "both"):
        directions = DIRECTIONS if prefix.lower() == "both" else (("up",) if prefix.lower() == "up" else ("down",))
        words = rest
    name, equals, value = words.partition("=")
    kind = name.strip().lower().replace("-", "_")
    if kind not in TOXICS:
        raise ToxicMistake(f"there is no toxic {name.strip()!r}; there are: {', '.join(TOXICS)}")
    read, example, needs_value = TOXICS[kind]
    value = value.strip()
    if not value and (needs_value or equals):
        raise ToxicMistake(f"{kind} needs a value; write it like {example}")
    try:
        fields = read(value) if value else Toxic(kind, "down")
    except ValueError as error:
        raise ToxicMistake(f"{text.strip()!r} is not understood: {error}; write it like {example}") from error
    if directions is None:
        # A drop of a share of the frames is about replies; a drop of everything about the connection.
        whole = kind in WHOLE_CONNECTION and fields.share >= 1 and not fields.mid_reply
        directions = DIRECTIONS if whole else (default,)
    return [fields._replace(kind=kind, direction=direction) for direction in directions]


def needs_frames(toxics: Iterable[Toxic]) -> bool:
    """Whether any of them must see where frames begin and end."""
    return any(toxic.kind in FRAME_TOXICS or (toxic.kind == "drop" and toxic.share < 1) for toxic in toxics)


def hits_of(direction: str, kind: str) -> str:
    """The name of a link's counter: how often a toxic of that kind really did something in that direction."""
    return f"{direction}_{kind}_hits"


def _latency(text: str) -> Toxic:
    base, plus, jitter = text.replace("+-", "±").replace("+/-", "±").partition("±")
    delay_s = parse_duration_s(base.strip())
    jitter_s = parse_duration_s(jitter.strip()) if plus else 0.0
    if max(delay_s, jitter_s) > MAX_LATENCY_S:
        raise ValueError(f"more than {MAX_LATENCY_S:g} s is not a latency")
    return Toxic("latency", "down", delay_s=delay_s, jitter_s=jitter_s)


def _jitter(text: str) -> Toxic:
    return Toxic("jitter", "down", jitter_s=_latency(text).delay_s)


def _bandwidth(text: str) -> Toxic:
    number, slash, unit = text.partition("/")
    if slash and unit.strip() != "s":
        raise ValueError("a bandwidth is per second")
    return Toxic("bandwidth", "down", size_bytes=parse_bytes(number))


def _after(text: str) -> Toxic:
    return Toxic("timeout", "down", delay_s=parse_duration_s(text))


def _reset(text: str) -> Toxic:
    return Toxic("reset", "down", mid_reply=True) if text.lower() == MID_REPLY else _after(text)


def _slicer(text: str) -> Toxic:
    size, slash, pause = text.partition("/")
    return Toxic("slicer", "down", size_bytes=parse_bytes(size), delay_s=parse_duration_s(pause) if slash else 0.0)


def _limit(text: str) -> Toxic:
    return Toxic("limit_data", "down", size_bytes=parse_bytes(text))


def _share(text: str) -> Toxic:
    number, percent, _ = text.partition("%")
    share = float(number) / (100 if percent else 1)
    if not 0 < share <= 1:
        raise ValueError("a share lies above 0 and is at most 100%")
    return Toxic("share", "down", share=share)


def parse_bytes(text: str) -> int:
    """`64`, `10KB`, `1.5MiB`. Errors: ValueError with a sentence."""
    match = _SIZE.fullmatch(text.strip())
    size = float(match[1]) * _UNIT_BYTES[(match[2] or "B").lower()] if match else 0.0
    if not 1 <= size <= MAX_BYTES:
        raise ValueError(f"{text.strip()!r} is not a size; write it such as 64, 10KB or 1MB")
    return int(size)


# Name -> how its value is read, an example, and whether it needs a value.
TOXICS: Final[dict[str, tuple[Callable[[str], Toxic], str, bool]]] = {
    "latency": (_latency, "latency=50ms±10ms", True),
    "jitter": (_jitter, "jitter=10ms", True),
    "bandwidth": (_bandwidth, "bandwidth=100KB/s", True),
    "drop": (_share, "drop or drop=5%", False),
    "stall": (_after, "stall", False),
    "timeout": (_after, "timeout=5s", True),
    "reset": (_reset, "reset, reset=2s or reset=mid", False),
    "slicer": (_slicer, "slicer=64 or slicer=64/10ms", True),
    "corrupt": (_share, "corrupt=1%", True),
    "limit_data": (_limit, "limit_data=10KB", True),
    "duplicate": (_share, "duplicate=5%", True),
    "reorder": (_share, "reorder=5%", True),
    "swap": (_share, "swap=5%", True),
}
