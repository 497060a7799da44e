"""The pictures in README.md and docs/, from a real run: a cluster under load, its leader killed and cut off by hand.

python -m scripts.screenshots            # writes docs/images/*.png; needs chromium, takes about a minute
"""

import json
import re
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser import chromium
from tests.processes import ROOT, wait_until
from tests.swarmproof.leftovers import Command

IMAGES = ROOT / "docs" / "images"
#: A README is read over slow lines, too.
MAX_BYTES = 300_000

PLAN = """
title = "Three nodes, their leader killed and then cut off"
seed = 7
[[target]]
kind = "raft"
nodes = 3
links = true
[load]
locustfile = "raft_kv"
users = 6
rate = "150/s"
"""


def live(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/swarmproof/live", timeout=30) as reply:
        data: dict[str, Any] = json.load(reply)
        return data


def wait_for_load(address: str, until_s: float) -> None:
    wait_until(lambda: live(address)["now"] >= until_s, f"{until_s} s of load", 120.0)


def strike(page: Page, button: str, said: str) -> None:
    page.get_by_role("button", name=button).click()
    page.locator("#confirm-yes").click()
    expect(page.get_by_role("status")).to_contain_text(said)


def picture(page: Page, name: str) -> None:
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}  {size / 1000:.0f} kB")
    if size > MAX_BYTES:
        sys.exit(f"{path.name} is larger than {MAX_BYTES} bytes; make the window smaller")


def tell(page: Page, address: str) -> None:
    """One test from the form to its report, with a picture wherever there is something to see."""
    page.goto(address)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="Live page").click()
    wait_for_load(address, 8)
    strike(page, "Kill", "is gone")
    wait_for_load(address, 20)
    strike(page, "Partition", "carry nothing")
    wait_for_load(address, 30)
    page.get_by_role("status").evaluate("node => node.textContent = ''")
    picture(page, "live-light")
    page.get_by_role("button", name="Dark").click()
    time.sleep(1.0)
    picture(page, "live-dark")
    page.get_by_role("button", name="Dark").click()
    page.get_by_role("link", name="Locust").click()
    page.set_viewport_size({"width": 1440, "height": 700})
    for tab in ("Percentiles", "Faults"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("cell").first).to_be_visible()
        time.sleep(1.0)  # the line under the tab is still on its way
        picture(page, f"tab-{tab.lower()}")
    page.get_by_role("button", name="Stop").click()
    wait_until(lambda: live(address)["report"], "the report", 120.0)
    page.set_viewport_size({"width": 1280, "height": 1110})
    page.goto(f"{address}/swarmproof/report")
    page.wait_for_load_state("networkidle")
    time.sleep(1.0)
    picture(page, "report")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as name:
        folder = Path(name)
        (folder / "pictures.toml").write_text(PLAN)
        with chromium(folder / "profile", viewport={"width": 1280, "height": 1110}) as browser:
            command = Command("run", "pictures.toml", "--web", directory=folder)
            try:
                match = re.search(r"http://\S+(?=;)", command.read_until("web UI at "))
                assert match
                wait_until(lambda: _answers(match[0]), "the web UI", 60.0)
                tell(browser.page(), match[0])
                command.signal(signal.SIGINT)
                command.wait(60)
            finally:
                command.close()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
