"""The login of `--web-login`: Locust shows the form and guards its routes, and leaves who may enter to us.

The password is taken from the environment, SWARMPROOF_WEB_PASSWORD (and SWARMPROOF_WEB_USER, "swarmproof" unless
set): a command line can be read by everybody on the machine. A locustfile with a login of its own keeps it.
"""

import hmac
import logging
import os
import secrets
from typing import Any, Final

import gevent
from flask import Blueprint, Response, redirect, request, session, url_for
from flask_login import UserMixin, login_user  # type: ignore[import-untyped]

logger = logging.getLogger(__name__)

PASSWORD_VARIABLE: Final = "SWARMPROOF_WEB_PASSWORD"
USER_VARIABLE: Final = "SWARMPROOF_WEB_USER"
DEFAULT_USER: Final = "swarmproof"

#: A wrong password costs so much: guessing is slow, and other requests are served meanwhile.
WRONG_COSTS_S: Final = 1.0


class _Person(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def install(web_ui: Any, blueprint: Blueprint, base: str) -> None:
    """Make the login work with the password of the environment; nothing when there is none."""
    password = os.environ.get(PASSWORD_VARIABLE, "").strip()
    name = os.environ.get(USER_VARIABLE, "") or DEFAULT_USER
    if not password:
        return
    if not web_ui.app.secret_key:
        web_ui.app.secret_key = secrets.token_hex(32)  # signs the cookie; signed out when the process ends
    web_ui.app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    web_ui.login_manager.user_loader(lambda known: _Person(name) if known == name else None)
    web_ui.auth_args = {**web_ui.auth_args, "username_password_callback": f"{base}/swarmproof/login"}

    @blueprint.post("/swarmproof/login")
    def sign_in() -> Response:
        given_name = request.form.get("username", "").encode()
        given_password = request.form.get("password", "").encode()
        right = hmac.compare_digest(given_name, name.encode()) & hmac.compare_digest(given_password, password.encode())
        if not right:
            gevent.sleep(WRONG_COSTS_S)
            session["auth_error"] = "Wrong user name or password"
            return redirect(url_for("locust.login"))  # type: ignore[return-value]
        session["auth_error"] = None
        login_user(_Person(name))
        return redirect(url_for("locust.index"))  # type: ignore[return-value]


def problem(web_ui: Any) -> str:
    """What is missing for --web-login to let anybody in, as a sentence; "" when nothing is."""
    if not web_ui.web_login or web_ui.login_manager._user_callback is not None:
        return ""
    return (
        f"--web-login needs a password: set {PASSWORD_VARIABLE} in the environment "
        f"(and {USER_VARIABLE}, else the user is called {DEFAULT_USER}), or use a locustfile with a login of its own"
    )
