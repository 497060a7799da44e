"""Locust's own HTML report (`--html FILE`, and the download of the web UI) with our percentiles, faults and verdict.

Locust renders it from a template of its own and asks no extension, so the function that renders is wrapped: what it
returns gets our sections behind its own. Should a later Locust render in another way, the report is Locust's alone.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import locust.html

logger = logging.getLogger(__name__)

REPORT: Final = "report.html"
#: Where Locust's page ends; its script fills it.
_ANCHOR: Final = '<div id="root"></div>'


def extend_html_report(sections: Callable[[str], str]) -> None:
    """From now on `sections(theme)`, HTML, stands in every report that this process renders. May be called again."""
    original = getattr(locust.html.render_template_from, "__wrapped__", locust.html.render_template_from)

    def render_template_from(file: str, *args: Any, **kwargs: Any) -> str:
        page: str = original(file, *args, **kwargs)
        if file != REPORT:
            return page
        try:
            return page.replace(_ANCHOR, _ANCHOR + sections(str(kwargs.get("theme", "light"))), 1)
        except Exception:  # Locust's report must not be lost for ours
            logger.exception("percentiles and faults are missing from the HTML report")
            return page

    render_template_from.__wrapped__ = original  # type: ignore[attr-defined]
    locust.html.render_template_from = render_template_from
