"""Plain Locust with the extension: under a base path, behind a login, without a supervisor."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect

from tests.browser import chromium, keep, nameless, too_faint
from tests.fleet.test_extension import SCENARIO, free_port, locust
from tests.processes import ROOT, wait_until

PASSWORD = "tell nobody"
BASE = "/load/tests"
WITHIN_MS = 45_000


@contextmanager
def web_ui(folder: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """A Locust with its web UI; gives its address with the base path."""
    port = free_port()
    options = ("--web-host", "127.0.0.1", "--web-port", str(port), "--web-base-path", BASE, *arguments)
    with locust(folder, *options, **environment):
        address = f"http://127.0.0.1:{port}{BASE}"
        wait_until(lambda: status_of(f"{address}/swarmproof") != 0, "the web UI", 60.0)
        yield address


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def status_of(address: str, data: bytes | None = None, **headers: str) -> int:
    """The HTTP status, redirects not followed; 0 when nobody answers."""
    try:
        opener = urllib.request.build_opener(_StayHere)
        with opener.open(urllib.request.Request(address, data, headers), timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_login_base_path_and_a_run_without_a_supervisor(tmp_path: Path) -> None:
    login = {"SWARMPROOF_WEB_PASSWORD": PASSWORD, "SWARMPROOF_WEB_USER": "ann"}
    with (
        chromium(tmp_path / "profile", color_scheme="dark") as browser,
        web_ui(tmp_path, "--web-login", "-u", "2", "-r", "2", **login) as address,
    ):
        for path in ("", "/live", "/report", "/percentiles.csv", "/standing", "/asset/page.js"):
            assert status_of(f"{address}/swarmproof{path}") == 302, path
        assert status_of(f"{address}/swarmproof/act", b"{}", **{"X-Swarmproof": "1"}) == 302
        assert status_of(address.removesuffix(BASE) + "/swarmproof") == 404

        page = browser.page()
        page.goto(f"{address}/swarmproof")
        expect(page).to_have_url(re.compile(f"{BASE}/login"))
        page.get_by_label("Username").fill("ann")
        page.get_by_label("Password").first.fill("guessed")
        page.get_by_role("button", name="Login").click()
        expect(page.get_by_text("Wrong user name or password")).to_be_visible()
        keep(page, "login")
        page.get_by_label("Username").fill("ann")
        page.get_by_label("Password").first.fill(PASSWORD)
        page.get_by_role("button", name="Login").click()

        page.get_by_text("Custom parameters").click()
        expect(page.get_by_label("Run Dir")).to_be_visible()  # nobody has told where the records go
        page.get_by_label("Run Dir").fill(str(tmp_path / "mine"))
        page.get_by_label("Threshold").fill("p99{clock tick}<5s; p98<5ms")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_text("'p98<5ms': there is no metric p98")).to_be_visible()  # and nothing has begun
        keep(page, "threshold-mistyped")
        assert not (tmp_path / "mine").exists()
        page.get_by_label("Threshold").fill("p99{clock tick}<5s; rate>1000000")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("tab", name="Faults").click()
        expect(page.get_by_role("cell", name="no fault has struck yet")).to_be_visible()
        page.get_by_role("link", name="Live page").click()
        page.locator("#response path.p50").wait_for(state="attached")
        assert page.get_by_role("button", name="Kill").is_disabled()
        assert "swarmproof run PLAN --web" in page.locator("#why-not").inner_text()
        assert (too_faint(page), nameless(page)) == ([], [])
        keep(page, "live-without-supervisor")
        assert page.request.get(f"{address}/swarmproof/percentiles.csv").text().startswith("Operation,Time")
        assert page.request.get(f"{address}/swarmproof/report").status == 404
        assert (tmp_path / "mine" / "progress.jsonl").exists()

        page.request.post(f"{address}/stop")
        facts = json.loads((tmp_path / "mine" / "run.json").read_text())
        assert facts["thresholds"] == {"p99{clock tick}": "< 5s", "rate": "> 1000000"}
        assert [result["holds"] for result in facts["threshold_results"]["evidence"]["results"]] == [True, False]
        # Started again into the same directory, which holds a run: said on the page, and nothing is overwritten.
        form = {"user_count": "2", "spawn_rate": "2", "run_dir": str(tmp_path / "mine"), "threshold": "rate>1"}
        page.request.post(f"{address}/swarm", form=form)
        expect(page.locator("#tiles")).to_contain_text("running")
        page.request.post(f"{address}/stop")
        (again,) = tmp_path.glob("2*-clockwork")  # a directory of its own, beside the first
        assert json.loads((again / "run.json").read_text())["thresholds"]["rate"] == "> 1"
        other = tmp_path / "other" / "latency"
        other.mkdir(parents=True)
        (other / "x.msgpack").write_bytes(b"")
        page.request.post(f"{address}/swarm", form=form | {"run_dir": str(other.parent)})
        expect(page.locator("#summary")).to_contain_text("holds a run already; name another", timeout=WITHIN_MS)
        assert browser.complaints == []

        page.context.clear_cookies()
        expect(page.get_by_role("alert")).to_contain_text("You are signed out", timeout=WITHIN_MS)


def test_a_login_without_a_password_is_refused_with_the_remedy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(SCENARIO), "--web-login", "--web-port", str(free_port())],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SWARMPROOF_WEB_PASSWORD": "  "},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "set SWARMPROOF_WEB_PASSWORD in the environment" in done.stderr
    assert "Traceback" not in done.stderr
