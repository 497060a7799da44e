"""report.html: complete, self-contained, safe, and drawn by a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from records.breakers import BreakerLog
from records.latency import CANCELLED, LatencyLog, LatencyRecorder
from records.leadership import Leader, append_leader
from records.run_directory import RunDirectory
from swarmproof.outages import write_outages
from swarmproof.report import write_html
from swarmproof.report.console import report_lines
from swarmproof.report.contents import read_contents
from swarmproof.report.html import render_html, reproduction
from tests.report import made

MAX_PAGE_BYTES = 6_000_000
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class _Page(HTMLParser):
    """Visible text, and everything that an element would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden += tag in ("script", "style")
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


def test_the_page_is_written_whole_and_not_too_large(valid: RunDirectory) -> None:
    path = write_html(valid)
    assert path == valid.file("report.html")
    assert path.stat().st_size < MAX_PAGE_BYTES
    page = _Page(path.read_text())
    assert page.fetched == []
    assert page.text.index("VALID") < page.text.index("Response time") < page.text.index("Operations")
    assert "leader n1 killed at 4.0 s; n2 leads term 2 after 0.41 s" in page.text
    assert "swarmproof run synthetic --seed 7" in page.text


def test_the_charts_have_the_faults_and_every_operation(valid: RunDirectory) -> None:
    html = render_html(read_contents(valid))
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert [band["text"] for band in data["faults"]] == ["kill n1", "kill n2"]
    assert data["faults"][0]["to"] == pytest.approx(4.0 + 0.47)
    assert {"all operations", "kv append", "envelope echo"} <= set(data["series"])
    series = data["series"]["all operations"]
    assert len({len(column) for column in series.values()}) == 1
    latency = read_contents(valid).latency
    first, *_ = latency.seconds()
    in_the_middle = slice(2, 10)  # whole seconds, in which a rate is a number of operations
    total = sum(sum(series[outcome][in_the_middle]) for outcome in ("ok", "failed", "unknown"))
    assert total == latency.summary(start_s=first + 2, end_s=first + 10).count
    curves = data["curves"]["kv append"]
    assert list(curves) == ["whole run", "before faults", "during faults", "after faults"]
    assert all(curve["ms"] == sorted(curve["ms"]) for curve in curves.values())
    assert [(led["leader"], led["term"]) for led in data["leaders"]] == [
        ("n1", 1), (None, 1), ("n2", 2), (None, 2), ("n3", 3)
    ]  # fmt: skip
    slow = data["slow"]["all operations"]
    assert max(slow["ms"]) == pytest.approx(max(value for value in series["max"] if value), rel=0.001)


def test_the_counterexample_is_told_drawn_and_listed(invalid: RunDirectory) -> None:
    html = render_html(read_contents(invalid))
    page = _Page(html)
    assert page.text.index("INVALID") < page.text.index("What could not have happened") < page.text.index("Operations")
    assert "an acknowledged write was lost" in page.text
    drawn, of_the_key = html.split("<figure>")
    assert drawn.count('<rect class="write') == 1
    assert drawn.count('<rect class="read') == 1
    assert 'class="fault"' in drawn
    assert of_the_key.count('<rect class="write"') == 1, "the one that was lost is solid"
    assert of_the_key.count('<rect class="write other"') > 10, "beside the others on its key"
    assert 'class="zone forward blamed"' in of_the_key


def test_a_server_cannot_write_into_the_page(tmp_path: Path) -> None:
    run = made.broken_replies_run(tmp_path, detail="<script>alert(1)</script><img src=x onerror=alert(2)>")
    run.update_json("run.json", {"name": "</title><script>alert(3)</script>", "seed": "</script>"})
    html = render_html(read_contents(run))
    page = _Page(html)
    assert "img" not in page.tags
    assert page.tags.count("script") == 3
    assert "alert(1)" in page.text
    assert page.fetched == []


def test_a_half_finished_run_gets_a_page_that_says_so(half_there: list[RunDirectory]) -> None:
    for run in half_there:
        page = _Page(render_html(read_contents(run)))
        assert "This run" in page.text, run.path.name
    assert "the run has not been judged yet" in _Page(render_html(read_contents(half_there[0]))).text


def test_a_page_without_data_carries_no_script_for_charts(half_there: list[RunDirectory]) -> None:
    assert len(render_html(read_contents(half_there[0]))) < 20_000


def test_the_line_to_repeat_a_run_quotes_what_a_shell_would_split(valid: RunDirectory) -> None:
    contents = read_contents(valid)
    contents.facts = {"arguments": ["run", "my plan.toml", "--seed", "3"], "seed": 3}
    assert reproduction(contents) == "swarmproof run 'my plan.toml' --seed 3"
    contents.facts = {"plan": "demo", "seed": 9}
    assert reproduction(contents) == "swarmproof run demo --seed 9"
    contents.facts = {"load": {"arguments": ["-f", "a.py"]}}
    assert reproduction(contents) == "locust -f a.py"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_draws_the_charts(valid: RunDirectory, tmp_path: Path) -> None:
    assert BROWSER is not None
    page = write_html(valid)
    result = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert result.stdout.count('class="main-svg"') >= 3
    assert result.stdout.count("kill n1") >= 3  # the table of faults, and a label in each chart over time
    assert "p99.9" in result.stdout


def test_the_verdict_is_a_sentence(
    valid: RunDirectory, invalid: RunDirectory, without_effect: RunDirectory, half_there: list[RunDirectory]
) -> None:
    def lead(run: RunDirectory) -> str:
        return re.search(r'<p class="lead">(.*?)</p>', render_html(read_contents(run))).group(1)  # type: ignore[union-attr]

    assert lead(valid).startswith("The system told its clients nothing untrue: linearizable: ")
    assert re.match(r"The system told its clients something untrue: n\d acknowledged append", lead(invalid))
    assert lead(without_effect).startswith("Whether the system told the truth cannot be said: the fault at 4.0 s")
    assert lead(half_there[0]).startswith("This run has no verdict: ")


def test_a_valid_run_that_missed_a_limit_says_so_first(valid: RunDirectory) -> None:
    contents = read_contents(valid)
    contents.verdict["checks"].append({"name": "thresholds", "verdict": "missed", "reason": "p99 is 9 ms"})
    assert "nothing untrue, but it missed a limit: p99 is 9 ms." in render_html(contents)


def test_what_faults_cost_is_a_table_and_its_spread_by_kind(tmp_path: Path) -> None:
    run = made.valid_run(tmp_path)
    write_outages(run)
    text = _Page(render_html(read_contents(run))).text
    assert "What each of them cost" in text
    assert "kill n1 at 4.0 s" in text
    assert re.search(r"killfirst acknowledged write20\.47 s0\.47 s0\.47 s", text)
    run.file("outages.csv").write_text("id,kind,first_ack_s\n1,kill,soon\n2,kill,1e400\n,,,,\x00")
    assert "This run" in _Page(render_html(read_contents(run))).text


def test_what_is_not_known_is_a_dash_and_no_zero(tmp_path: Path, without_effect: RunDirectory) -> None:
    run = made.valid_run(tmp_path)
    recorder = LatencyRecorder()
    recorder.record("envelope log", *[contents_start(run)] * 3, CANCELLED)
    log = LatencyLog(run.latency_dir / "worker-2.msgpack", "worker-2")
    log.append(recorder.take())
    log.close()
    contents = read_contents(run)
    contents.load["rate"] = "100"
    contents.outages = [
        {"kind": "kill", "chosen": "a", "failed": "3", "detection_s": "0.7", "source": "seconds"},
        {"kind": "kill", "chosen": "b", "failed": "", "detection_s": "0.1", "source": "history"},
        {"kind": "kill", "chosen": "c", "failed": "", "detection_s": "0.2", "source": "history"},
    ]
    text = _Page(render_html(contents)).text
    assert "envelope log0000.0" + "–" * 7 in text
    assert re.search(r"envelope log +0 +0 +0 +0\.0( +–){7}\n", "\n".join(line for _, line in report_lines(contents)))
    assert "kill a≤ 0.70 s3kill b0.10 s–" in text
    assert "killfirst error or silence20.10 s0.15 s0.20 s" in text, "whole seconds are no part of that spread"
    assert "at 100 a second: nobody said what became of them" in text
    assert "healed" not in _Page(render_html(read_contents(without_effect))).text.partition("asked for:")[2][:80]


def test_the_health_of_targets_and_generator_is_told(tmp_path: Path) -> None:
    run = made.valid_run(tmp_path)
    load = run.read_json("run.json").get("load", {})
    load |= {"users": 20, "rate": "100", "issued": 990, "dropped": 10, "unissued": 0, "hub_lag_p99_s": 0.0046}
    load |= {"lost_workers": ["w1"], "generator_cpu_share": 0.95, "generator_advice": "it is at its limit"}
    targets = [{"name": "raft", "kind": "raft", "address": "kv://x", "members": [{"name": "n1"}, {"name": "n2"}]}]
    reads = {"raft": {"keys": 12, "nodes": {"n1": 12, "n2": 11}}}
    run.update_json(
        "run.json", {"load": load, "targets": targets, "final_reads": reads, "unexpected_deaths": ["n2 died: SIGSEGV"]}
    )
    progress = [{"elapsed_s": second, "users": 20, "workers": 2, "dropped": second} for second in (1.0, 2.0)]
    run.file("progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in progress))
    append_leader(run, Leader(contents_start(run), "raft", "n1", 1))
    text = _Page(render_html(read_contents(run))).text
    assert "12 keys: n1 12, n2 11" in text
    assert "n1 (term 1)" in text
    assert "n2 died: SIGSEGV" in text
    assert "20 in 2 worker processes" in text
    assert "at 100 a second: 990 issued, 10 dropped" in text
    assert "woke its users 4.6 ms late or less (p99); used 95% of a core" in text
    assert "one worker was lost" in text
    assert "it is at its limit" in text


def test_a_breakers_changes_are_a_table_and_its_refusals_apart(tmp_path: Path) -> None:
    run = made.valid_run(tmp_path)
    assert "Circuit breakers" not in render_html(read_contents(run))
    log = BreakerLog(run, "worker-1")
    log.changed("127.0.0.1:1", "closed", "open", "<b>reset", 0)
    log.refused("127.0.0.1:1", "open", 1234)
    log.close()
    text = _Page(render_html(read_contents(run))).text
    assert "1 change of state; 1 234 calls were refused" in text
    assert "closed → open<b>reset" in text


def contents_start(run: RunDirectory) -> int:
    start_ns = read_contents(run).start_ns
    assert start_ns is not None
    return start_ns
