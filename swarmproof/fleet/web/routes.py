"""The routes beside Locust's own, under the same base path and behind the same login.

    GET  /swarmproof              the page                GET  /swarmproof/live      what it shows, as JSON
    GET  /swarmproof/asset/NAME   its style and script    GET  /swarmproof/standing  the verdict, in a word
    POST /swarmproof/act          a fault, or healing     GET  /swarmproof/report, /swarmproof/percentiles.csv

A POST is only taken from a page of this very UI: another site's page can send neither the header nor our origin.
"""

import csv
import functools
import io
import logging
import time
from collections.abc import Callable
from importlib import resources
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, request
from gevent.lock import BoundedSemaphore

from records.run_directory import REPORT_HTML
from swarmproof.control import ControlError
from swarmproof.durations import parse_duration_s
from swarmproof.faults.catalogue import CATALOGUE
from swarmproof.faults.selection import CLUSTER_SELECTORS, normal_target
from swarmproof.fleet import thresholds
from swarmproof.fleet.live import Live
from swarmproof.fleet.standing import NO_RUN, standing
from swarmproof.fleet.web import login
from swarmproof.fleet.web.tabs import COLUMNS, PERCENTILES, TABLES, TABS, extended_stats, percentile_rows
from swarmproof.fleet.web.view import view

logger = logging.getLogger(__name__)

#: No page of another site can set it without a preflight, and preflights do not carry our origin.
OWN_HEADER: Final = "X-Swarmproof"

ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript", "page.link.js": "text/javascript"}

#: What the buttons stand for; everything else of the catalogue is for `swarmproof fault`.
KINDS: Final = ("kill", "pause", "partition")
MAX_TARGET_CHARS: Final = 100

#: Nothing from elsewhere, and no inline script: what a server answered may stand in the page as text only.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

#: In Locust's page: beside the tabs where there is room, else where it hides little.
_LINK: Final = (
    "<style>#swarmproof-link{position:absolute;right:16px;top:70px;z-index:1200;padding:7px 14px;border-radius:20px;"
    "background:#15803d;color:#fff;font:500 15px/1.2 Roboto,Helvetica,Arial,sans-serif;text-decoration:none}"
    "#swarmproof-link:focus-visible{outline:3px solid #1d4ed8;outline-offset:2px}"
    "@media(max-width:1399px){#swarmproof-link{position:fixed;top:auto;bottom:8px;left:16px;right:auto}}</style>"
    '<a href="./swarmproof" id="swarmproof-link">Live page</a>'
    '<script src="./swarmproof/asset/page.link.js" defer></script>'
)


#: Two people who press at once: the second is told what the first did.
_one_at_a_time = BoundedSemaphore()


class BadRequest(Exception):
    """What was asked cannot be done; one sentence, and the HTTP status."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


def attach(environment: Any, live: Live) -> None:
    """Add everything to the web UI of `environment`."""
    web_ui = environment.web_ui
    options = environment.parsed_options
    base = (getattr(options, "web_base_path", "") or "").rstrip("/")
    web_ui.template_args |= {
        "extended_tabs": TABS,
        "extended_tables": TABLES,
        "extended_csv_files": [
            {"href": "./swarmproof/percentiles.csv", "title": "Download percentiles CSV (microseconds)"},
            {"href": "./swarmproof/report", "title": "Open the report of the run"},
        ],
    }
    blueprint = _blueprint(web_ui.auth_required_if_enabled, live, base)
    if web_ui.web_login:
        login.install(web_ui, blueprint, base)
    web_ui.app.register_blueprint(blueprint)

    @web_ui.app.before_request  # type: ignore[untyped-decorator]
    def check_form() -> Response | None:
        if request.endpoint == "locust.swarm" and (sentence := thresholds.problem(request.form.get("threshold", ""))):
            return jsonify({"success": False, "message": sentence, "host": environment.host})
        return None

    @web_ui.app.after_request  # type: ignore[untyped-decorator]
    def extend(response: Response) -> Response:
        if request.endpoint == "locust.request_stats" and response.is_json:
            response.set_data(jsonify({**response.json, "extended_stats": extended_stats(live)}).get_data())  # type: ignore[dict-item]
        elif request.endpoint == "locust.index" and response.status_code == 200:
            response.set_data(response.get_data(as_text=True).replace("</body>", f"{_LINK}</body>"))
        return response


def _blueprint(guarded_by_login: Callable[[Any], Any], live: Live, base: str) -> Blueprint:
    blueprint = Blueprint("swarmproof", __name__, url_prefix=base or None)

    def guarded(view_function: Callable[..., Response]) -> Any:
        return guarded_by_login(_answering(view_function))

    @blueprint.get("/swarmproof")
    @guarded
    def page() -> Response:
        return _asset("page.html", "text/html")

    @blueprint.get("/swarmproof/asset/<name>")
    @guarded
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise BadRequest("there is no such file", 404)
        return _asset(name, ASSETS[name])

    @blueprint.get("/swarmproof/live")
    @guarded
    def live_data() -> Response:
        return _fresh(jsonify(view(live, time.monotonic_ns())))

    @blueprint.get("/swarmproof/standing")
    @guarded
    def standing_data() -> Response:
        now = standing(live)
        return _fresh(jsonify({"verdict": "" if now.verdict == NO_RUN else now.verdict, "final": now.is_final}))

    @blueprint.get("/swarmproof/report")
    @guarded
    def report() -> Response:
        path = live.run.file(REPORT_HTML) if live.run else None
        if path is None or not path.exists():
            raise BadRequest("there is no report yet: it is written when the run is over and has been judged", 404)
        # As a file it needs no icon; from a server a browser would ask for one that is not there.
        page = path.read_bytes().replace(b"<head>", b'<head><link rel="icon" href="data:,">', 1)
        return _fresh(Response(page, mimetype="text/html"))

    @blueprint.get("/swarmproof/percentiles.csv")
    @guarded
    def percentiles() -> Response:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS[PERCENTILES])
        writer.writerow(COLUMNS[PERCENTILES])
        writer.writerows(percentile_rows(live))
        response = Response(text.getvalue(), mimetype="text/csv")
        response.headers["Content-Disposition"] = "attachment; filename=percentiles.csv"
        return _fresh(response)

    @blueprint.post("/swarmproof/act")
    @guarded
    def act() -> Response:
        _check_origin()
        body = request.get_json(silent=True)
        if not isinstance(body, dict):
            raise BadRequest("the request is not a JSON object")
        return _fresh(jsonify({"said": carry_out(live, body)}))

    return blueprint


def _answering(view: Callable[..., Response]) -> Callable[..., Response]:
    """Errors as answers. Inside the login's guard, which would take them for its own and show them as a page."""

    @functools.wraps(view)
    def answer(*arguments: Any, **named: Any) -> Response:
        try:
            return view(*arguments, **named)
        except BadRequest as error:
            return _sentence(str(error), error.status)
        except ControlError as error:
            return _sentence(str(error), 409)
        except Exception as error:
            logger.exception("the page /swarmproof met a mistake of its own")
            return _sentence(f"this page met a mistake of its own ({type(error).__name__}); the log has it", 500)

    return answer


def carry_out(live: Live, body: dict[str, Any]) -> str:
    """One action of a person; what came of it, as a sentence. Errors: BadRequest, ControlError."""
    if body.get("action") == "heal":
        healed = live.command({"command": "heal"}).get("healed")
        return f"healed: {', '.join(map(str, healed))}" if healed else "there was nothing to heal"
    kind, target, heal_after = body.get("action"), body.get("target"), body.get("heal_after")
    if kind not in KINDS:
        raise BadRequest(
            f"there is no action {str(kind)[:MAX_TARGET_CHARS]!r}; there are: {', '.join((*KINDS, 'heal'))}"
        )
    if not live.is_loading:
        raise BadRequest("no test is running, so nothing is to be broken: start one in Locust", 409)
    if not isinstance(target, str) or not target.strip() or len(target) > MAX_TARGET_CHARS or "@" in target:
        raise BadRequest("name a target: leader, follower, a node, or a server by its name")
    if heal_after is not None:
        try:
            parse_duration_s(str(heal_after))
        except ValueError as error:
            raise BadRequest(str(error)) from error
    with _one_at_a_time:
        _refuse_if_in_vain(live, kind, target)
        reply = live.command({"command": "fault", "kind": kind, "target": target, "heal_after": heal_after})
    if not reply.get("took_effect"):
        raise BadRequest(f"{kind} {target} did not take effect: {reply.get('problem') or reply.get('observed')}", 409)
    return f"{kind} {reply.get('chosen')}: {reply.get('observed')}"


def _refuse_if_in_vain(live: Live, kind: str, target: str) -> None:
    """A fault that was asked for and cannot be done would make the verdict unknown. Errors: BadRequest."""
    status = live.status(fresh=True)
    if kind == "partition" and status.reply is not None and not status.reply.get("links"):
        raise BadRequest(
            "there are no links between the nodes to cut: set `links = true` in the plan's [[target]]", 409
        )
    for fault in status.active:
        known = CATALOGUE.get(str(fault.get("kind")))
        victims = str(fault.get("chosen")).split(", ")
        if known is not None and known.silences and (target in CLUSTER_SELECTORS or normal_target(target) in victims):
            raise BadRequest(
                f"{kind} {target} did not take effect: {fault['kind']} {fault['chosen']} is under way, by a plan or "
                "by somebody else; wait until it is healed, or heal it",
                409,
            )


def _check_origin() -> None:
    if request.headers.get(OWN_HEADER) is None:
        raise BadRequest(f"this is for the page of this UI only (the header {OWN_HEADER} is missing)", 403)
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin" or (
        origin is not None and urlsplit(origin).netloc != request.host
    ):
        raise BadRequest(
            f"the request came from {origin or 'another site'}, and this UI is at {request.host}; "
            "a proxy in front of it must pass the Host header on",
            403,
        )


def _asset(name: str, kind: str) -> Response:
    response = Response(resources.files("swarmproof.fleet.web").joinpath(name).read_bytes(), mimetype=kind)
    response.headers["Content-Security-Policy"] = _POLICY
    return _fresh(response)


def _sentence(text: str, status: int) -> Response:
    """A refusal: for the page as JSON, for a person who typed the address as a line of text."""
    if request.path.endswith(("/live", "/act")):
        response = jsonify({"error": text})
    else:
        response = Response(text + "\n", mimetype="text/plain")
    response.status_code = status
    return _fresh(response)


def _fresh(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
