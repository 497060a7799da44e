"""report.html: complete, self-contained, safe, and drawn by a real browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from records.run_directory import RunDirectory
from swarmproof.report import write_html
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
    assert data["faults"][0]["to"] - data["faults"][0]["from"] == pytest.approx(0.47)
    assert {"all operations", "kv append", "envelope echo"} <= set(data["series"])
    series = data["series"]["all operations"]
    assert len({len(column) for column in series.values()}) == 1
    total = sum(series["ok"]) + sum(series["failed"]) + sum(series["unknown"])
    assert total == read_contents(valid).latency.summary().count
    curve = data["curves"]["kv append"]
    assert curve["ms"] == sorted(curve["ms"])


def test_the_counterexample_is_told_drawn_and_listed(invalid: RunDirectory) -> None:
    html = render_html(read_contents(invalid))
    page = _Page(html)
    assert page.text.index("INVALID") < page.text.index("What could not have happened") < page.text.index("Operations")
    assert "an acknowledged write was lost" in page.text
    assert html.count('<rect class="write') == 1
    assert html.count('<rect class="read') == 1
    assert 'class="fault"' in html


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
