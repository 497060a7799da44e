"""``latency.hlog``: the HdrHistogram interval log that standard tools open.

One line per second, operation and kind of time; values in microseconds; the tag is the operation's name with
spaces as underscores, service times under ``service/<name>``. Times count from the first second of the run.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

from records.histogram import (
    HIGHEST_US,
    LOWEST_US,
    SIGNIFICANT_DIGITS,
    Histogram,
    highest_equivalent_us,
    lowest_equivalent_us,
)
from records.latency import RESPONSE, SERVICE, LatencyStore

_SERVICE_PREFIX = "service/"


def new_hdr_histogram() -> Any:
    """An empty histogram of the library in the layout of all ours."""
    return HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)


def to_hdr(histogram: Histogram) -> Any:
    """The library's histogram of the same counts."""
    result = new_hdr_histogram()
    if len(histogram.indices):
        np.frombuffer(result.counts, dtype=np.uint64)[histogram.indices] = histogram.counts
        result.min_value, result.max_value = lowest_equivalent_us(histogram.indices[[0, -1]]).tolist()
        result.total_count = histogram.total
    return result


def tag_of(operation: str, kind: str) -> str:
    """A tag may not hold commas or white space (HdrHistogram's log format)."""
    name = "_".join(operation.replace(",", " ").split())
    return _SERVICE_PREFIX + name if kind == SERVICE else name


def write_hlog(
    store: LatencyStore, path: Path, start_time_s: float = 0.0, pause: Callable[[], None] | None = None
) -> None:
    """Write the whole store; ``start_time_s`` is the wall-clock time of its first second.

    `pause` is called after each line. A reader sees the old file or the whole new one.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write("#[Histogram log format version 1.3]\n")
            file.write(f"#[StartTime: {start_time_s:.3f} (seconds since epoch)]\n")
            file.write('"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n')
            for line in _lines(store):
                file.write(line)
                if pause is not None:
                    pause()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _lines(store: LatencyStore) -> Iterator[str]:
    seconds = store.seconds()
    for second in seconds:
        for operation in store.operations():
            for kind in (RESPONSE, SERVICE):
                histogram = store.histogram(operation, kind, second, second + 1)
                if histogram.total:
                    payload = to_hdr(histogram).encode().decode("ascii")
                    at = f"{second - seconds[0]:.3f},1.000,{histogram.max_us:.3f}"
                    yield f"Tag={tag_of(operation, kind)},{at},{payload}\n"


def read_hlog(path: Path) -> dict[str, Histogram]:
    """Tag -> histogram of the whole log. Errors: ValueError for a line that is not of the format."""
    merged: dict[str, Any] = defaultdict(new_hdr_histogram)
    for tag, payload in _intervals(path):
        merged[tag].decode_and_add(payload)
    return {tag: _from_hdr(histogram) for tag, histogram in merged.items()}


def _intervals(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line[0] in '#"':
            continue
        fields = line.split(",")
        tag = fields.pop(0).removeprefix("Tag=") if fields[0].startswith("Tag=") else ""
        if len(fields) != 4:
            raise ValueError(f"{path}:{number}: not an interval of a histogram log")
        yield tag, fields[3]


def _from_hdr(histogram: Any) -> Histogram:
    pairs = [(item.value_iterated_to, item.count_added_in_this_iter_step) for item in histogram.get_recorded_iterator()]
    values = np.repeat(
        np.array([value for value, _ in pairs], dtype=np.int64),
        np.array([count for _, count in pairs], dtype=np.int64),
    )
    result = Histogram.of(values)
    result.min_us = int(lowest_equivalent_us(result.indices[:1])[0]) if pairs else HIGHEST_US
    result.max_us = int(highest_equivalent_us(result.indices[-1:])[0]) if pairs else 0
    return result
