"""A real Chromium for tests of pages: skips where there is none, fails in CI; and what is computed in the page.

    with chromium(tmp_path) as browser:
        page = browser.page()
        page.goto(address)
        ...
        assert browser.complaints == []

Screenshots go to test-reports/screenshots/, which CI keeps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.components import require
from tests.processes import ROOT

SCREENSHOTS = ROOT / "test-reports" / "screenshots"

#: No sandbox: tests run as root in containers. The rest keeps it from talking to anybody but the page.
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)
#: For everything awaited in a page; room for a loaded machine.
WITHIN_MS = 45_000

#: WCAG 2.1 AA for texts of normal size.
LEAST_CONTRAST = 4.5

_CONTRASTS = """() => {
  const rgba = (text) => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return [n[0], n[1], n[2], n.length > 3 ? n[3] : 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const linear = (value) => (value / 255 <= .03928 ? value / 255 / 12.92 : ((value / 255 + .055) / 1.055) ** 2.4);
  const light = (c) => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const background = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.unshift(rgba(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].filter((child) => child.nodeType === 3 && child.data.trim());
    const box = node.getBoundingClientRect();
    if (!own.length || !box.width || !box.height) continue;
    if (node.closest(":disabled, [hidden], title, noscript, option, script")) continue;
    const drawn = node instanceof SVGElement;
    if (drawn && node.classList.contains("led")) continue; // on a coloured ribbon, not on the card
    const below = background(drawn ? node.ownerSVGElement.parentElement : node);
    const style = getComputedStyle(node);
    const [a, b] = [light(over(rgba(drawn ? style.fill : style.color), below)), light(below)];
    found.push([own[0].data.trim().slice(0, 60), (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]);
  }
  return found;
}"""


class Chromium:
    """One browser profile; `complaints` is everything that its pages put into the console as an error."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []

    def page(self, *, watched: bool = True) -> Page:
        """A new tab. `watched`: its console errors count."""
        page = self.context.new_page()
        if watched:
            page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
            page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page


@contextmanager
def chromium(profile: Path, **options: Any) -> Iterator[Chromium]:
    """The distribution's Chromium with a new profile in `profile`."""
    program = require("chromium")
    settings: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"} | options
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=program, headless=True, args=list(ARGUMENTS), **settings
        )
        context.set_default_timeout(WITHIN_MS)
        try:
            yield Chromium(context)
        except Exception as error:
            for place, page in enumerate(context.pages):
                error.add_note(f"{page.url} (screenshot: {keep(page, f'failed-{profile.name}-{place}')})")
            raise
        finally:
            context.close()


def keep(page: Page, name: str) -> Path:
    """A screenshot of the whole page for whoever looks at the results."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path


def too_faint(page: Page) -> list[tuple[str, float]]:
    """Texts of the page whose contrast with what lies below them is too small to be read by all."""
    found: list[tuple[str, float]] = [(text, round(ratio, 2)) for text, ratio in page.evaluate(_CONTRASTS)]
    assert found, "the page shows no text at all"
    return [(text, ratio) for text, ratio in found if ratio < LEAST_CONTRAST]


def nameless(page: Page) -> list[str]:
    """Controls that a screen reader could not name."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("a, button, select, input, [role=img]")].filter((node) =>
             node.getClientRects().length && !(node.getAttribute("aria-label") || node.getAttribute("aria-labelledby")
               || node.textContent.trim() || node.labels?.length)).map((node) => node.outerHTML.slice(0, 120))"""
    )
    return found
