"""Two runs side by side, several in a row: what is said, and what is not."""

import itertools
import json
import random
from html.parser import HTMLParser
from pathlib import Path

import pytest

from records.histogram import Histogram
from records.latency import LatencyLog, LatencyRecorder, LatencyStore
from records.run_directory import RunDirectory
from swarmproof.report.comparing import compare
from swarmproof.report.contents import read_contents
from swarmproof.report.several_html import comparison_page, trend_page
from swarmproof.report.several_text import comparison_lines, trend_lines
from swarmproof.report.trend_of_runs import trend_of
from swarmproof.report.variation import HIGHER, LOWER, TOO_FEW, WITHIN, difference, rank_z, stretches

S = 10**9


def loaded_run(
    root: Path, seed: int, *, mean_ms: float = 2.0, seconds: int = 30, per_s: int = 150, name: str = "demo"
) -> RunDirectory:
    """A run of one operation whose times are exponential around `mean_ms`."""
    rng = random.Random(seed)
    run = RunDirectory.create(root, name)
    recorder = LatencyRecorder()
    for second in range(seconds):
        for place in range(per_s):
            end_ns = (1000 + second) * S + place * S // per_s
            took_ns = int(rng.expovariate(1 / mean_ms) * 1_000_000) + 200_000
            recorder.record("envelope echo", end_ns - took_ns, end_ns - took_ns, end_ns)
    log = LatencyLog(run.latency_dir / "a.msgpack", "a")
    log.append(recorder.take())
    log.close()
    facts = {"name": name, "seed": seed, "start_ns": 1000 * S, "end_ns": 2000 * S, "start_time": 1.7e9 + seed}
    run.write_json("run.json", facts | {"plan": {"load": {"users": 20}, "seed": seed}, "versions": {"python": "3.12"}})
    run.write_json("verdict.json", {"verdict": "valid", "summary": "all is well", "checks": []})
    return run


def says(a: RunDirectory, b: RunDirectory, figure: str) -> str:
    (pair,) = compare(read_contents(a), read_contents(b)).operations
    (one,) = [percentile for percentile in pair.percentiles if percentile.name == figure]
    return one.says


def test_a_real_difference_is_called_one_in_both_directions(tmp_path: Path) -> None:
    fast, slow = loaded_run(tmp_path, 1), loaded_run(tmp_path, 2, mean_ms=3.0)
    assert says(fast, slow, "p50") == HIGHER
    assert says(slow, fast, "p50") == LOWER
    (pair,) = compare(read_contents(fast), read_contents(slow)).operations
    assert pair.percentiles[0].ratio == pytest.approx(1.4, abs=0.2)


def test_chance_is_not_called_a_difference(tmp_path: Path) -> None:
    runs = [loaded_run(tmp_path, seed, per_s=100) for seed in range(1, 6)]
    words = [says(a, b, "p50") for a, b in itertools.combinations(runs, 2)]
    assert words.count(WITHIN) >= 9


def test_a_percentile_that_few_samples_reach_is_not_judged(tmp_path: Path) -> None:
    a, b = loaded_run(tmp_path, 1), loaded_run(tmp_path, 2, mean_ms=9.0)
    assert says(a, b, "p99.9") == TOO_FEW
    short = loaded_run(tmp_path, 3, seconds=6)
    assert says(a, short, "p50") == TOO_FEW


def test_ranks_that_do_not_overlap_are_as_far_apart_as_can_be() -> None:
    assert rank_z([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2.611, abs=0.001)
    assert rank_z([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == pytest.approx(-2.611, abs=0.001)
    assert rank_z([1, 1, 1, 1, 1], [1, 1, 1, 1, 1]) == 0.0


def test_a_store_without_anything_has_no_stretches() -> None:
    assert stretches(LatencyStore(), None, 50) == []
    assert difference(LatencyStore(), LatencyStore(), None, 50) == TOO_FEW
    assert Histogram().percentile_us(50) == 0.0


def test_what_differed_is_named_and_what_always_differs_is_not(tmp_path: Path) -> None:
    a, b = loaded_run(tmp_path, 1), loaded_run(tmp_path, 2)
    b.update_json("run.json", {"plan": {"load": {"users": 50}}, "versions": {"python": "3.13"}})
    found = {entry.what: (entry.a, entry.b) for entry in compare(read_contents(a), read_contents(b)).differences}
    assert found == {"seed": ("1", "2"), "plan load.users": ("20", "50"), "versions python": ("3.12", "3.13")}


def test_a_comparison_reads_as_lines(tmp_path: Path) -> None:
    a, b = loaded_run(tmp_path, 1), loaded_run(tmp_path, 2, mean_ms=3.0)
    figures = {"first_ack_s": {"min": 0.4, "median": 0.5, "max": 0.6, "count": 3}}
    a.update_json("run.json", {"recovery": figures})
    b.write_json("verdict.json", {"verdict": "invalid", "checks": [{"name": "durability", "verdict": "invalid"}]})
    text = "\n".join(comparison_lines(compare(read_contents(a), read_contents(b))))
    assert "VALID  demo, seed 1" in text
    assert "first acknowledged write       0.40 / 0.50 / 0.60 s (3)  –" in text
    assert "durability  –  invalid" in text
    assert "two runs cannot tell whether the next two would" in text


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name in ("src", "href", "onload", "onerror")]


def test_the_pages_are_small_and_nobody_writes_into_them(tmp_path: Path) -> None:
    a, b = loaded_run(tmp_path, 1), loaded_run(tmp_path, 2)
    evil = "</title><script>alert(1)</script><img src=x>"
    b.update_json("run.json", {"title": evil, "name": evil, "versions": {"x": evil}})
    contents = [read_contents(a), read_contents(b)]
    for page in (comparison_page(compare(*contents), *contents), trend_page(trend_of(contents))):
        assert len(page) < 100_000
        tags = _Tags(page).tags
        assert "script" not in tags
        assert "img" not in tags
        assert "svg" in tags


def test_a_trend_says_where_the_newest_run_stands(tmp_path: Path) -> None:
    runs = [loaded_run(tmp_path, seed, seconds=4, mean_ms=2 + 0.1 * seed) for seed in (3, 1, 2, 4)]
    runs.append(loaded_run(tmp_path, 9, seconds=4, mean_ms=9.0))
    trend = trend_of([read_contents(run) for run in runs])
    assert [row.seed for row in trend.runs] == [1, 2, 3, 4, 9]
    (p99,) = [sentence for sentence in trend.sentences if sentence.startswith("p99")]
    assert "above what the 4 earlier ones had" in p99
    assert len(trend_lines(trend)) >= 6
    json.dumps(trend.to_json())


def test_two_runs_are_no_trend_and_two_plans_neither(tmp_path: Path) -> None:
    runs = [read_contents(loaded_run(tmp_path, seed, seconds=2)) for seed in (1, 2)]
    assert trend_of(runs).sentences == ["with 2 runs nobody can tell a trend from chance; 5 or more can"]
    other = read_contents(loaded_run(tmp_path, 3, seconds=2, name="other"))
    assert trend_of([*runs, other]).sentences == ["these are runs of 2 plans (demo, other): their figures are no trend"]


def test_an_invalid_run_in_a_trend_is_said_first(tmp_path: Path) -> None:
    a, b = loaded_run(tmp_path, 1, seconds=2), loaded_run(tmp_path, 2, seconds=2)
    b.write_json("verdict.json", {"verdict": "invalid"})
    assert trend_of([read_contents(a), read_contents(b)]).sentences[0] == f"1 of 2 runs are invalid: {b.path.name}"
