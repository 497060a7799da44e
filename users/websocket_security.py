"""Users of the security server (seed 001): an echo that may refuse, which is no lie.

    {"error":{"reason":"rate limit exceeded","retry_after_secs":1}}

A refusal fails its request under its reason; a forbidden text that is *not* refused is a violation. Each user of one
address shares the server's limit with all others: raise --requests-per-minute and --burst there to measure load.
"""

import random
from typing import Any, ClassVar, Final, Literal

import orjson

from records.violations import PAYLOAD
from users.client import Client
from users.failures import RequestFailure, ServerRefused
from users.session import Session
from users.transport import Endpoint
from users.websocket_echo import (
    TEXT_ID_CHARS,
    EchoReply,
    EchoSession,
    WebSocketEchoClient,
    WebSocketEchoUser,
    as_bytes,
)

RATE_LIMIT: Final = "rate limit exceeded"
FORBIDDEN_CONTENT: Final = "forbidden content"
# Reasons that may stand in the failure table; a server could invent any text.
_KNOWN_REASONS: Final = frozenset({RATE_LIMIT, FORBIDDEN_CONTENT})
OTHER_REASON: Final = "refused for another reason"
# The longest refusal worth decoding.
_MAX_REFUSAL_CHARS: Final = 1_000
FORBIDDEN: Final = ("<script>alert(1)</script>", "javascript:alert(1)", "eval(1)", "exec('x')", "os.system('x')")


class SecuritySession(EchoSession):
    """Echoes name their requests, refusals do not: they belong to the oldest, also when that was cancelled."""

    def __init__(self, endpoint: Endpoint, has_ids: bool) -> None:
        super().__init__(endpoint, has_ids)
        self.matches_by_id = False


class WebSocketSecurityClient(WebSocketEchoClient):
    """`text` and `binary` as of the echo, and `forbidden`."""

    def forbidden(self) -> bool:
        """Send a text that must be refused for its content. False when it was not, or failed otherwise."""
        return self.perform("forbidden text", FORBIDDEN_CONTENT) is not None

    def _session(self) -> Session:
        return SecuritySession(self._endpoint, self._has_ids)

    def _encode(self, request_id: int, request: type | Literal["forbidden content"]) -> tuple[int, bytes, Any]:
        if request != FORBIDDEN_CONTENT:
            assert isinstance(request, type)
            return super()._encode(request_id, request)
        session: Any = self.connection.session
        start = f"{request_id:0{TEXT_ID_CHARS}x} " if self._has_ids else ""
        return request_id, session.frame(start + random.choice(FORBIDDEN)), None

    def _check(self, name: str, reply: EchoReply, expected: str | bytes | None) -> RequestFailure | None:
        reason = refusal_in(reply.payload)
        if expected is None:
            if reason == FORBIDDEN_CONTENT:
                return None
            if not reason:
                return self._violation(PAYLOAD, name, b"", as_bytes(reply.payload), "forbidden content was let through")
        if reason and reply.payload != expected:
            return ServerRefused(reason)
        assert expected is not None
        return super()._check(name, reply, expected)


class WebSocketSecurityUser(WebSocketEchoUser):
    """Abstract user with a `WebSocketSecurityClient` as `client`."""

    abstract = True
    client_class: ClassVar[type[Client]] = WebSocketSecurityClient
    host = "ws://127.0.0.1:8088"
    client: WebSocketSecurityClient


def refusal_in(payload: str | bytes) -> str:
    """The reason of a refusal; "" when this is none."""
    if not isinstance(payload, str) or len(payload) > _MAX_REFUSAL_CHARS or not payload.startswith('{"error"'):
        return ""
    try:
        message = orjson.loads(payload)
    except ValueError:
        return ""
    error = message.get("error")
    reason = error.get("reason") if isinstance(error, dict) else None
    if not isinstance(reason, str):
        return ""
    return reason if reason in _KNOWN_REASONS else OTHER_REASON
