"""What a WebSocket connection tells its owner, and the numbers and texts it uses for it.

A connection's life as events:

    Opened   ->   Text | Binary | Ping | Pong ...   ->   Closed      (exactly one Closed, opened or not)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

# The security server's limit (seed 001); others pass their own. Counts a whole message, all its fragments,
# after decompression.
MAX_MESSAGE_BYTES = 1_048_576
# Browsers and servers stop at 8 to 64 KiB of request head; ours carry a few hundred bytes.
MAX_HANDSHAKE_BYTES = 65_536

# Of the library's texts, which may quote the peer.
MAX_DETAIL_CHARS = 200

# Stable reasons of RemoteProtocolError.
BAD_HANDSHAKE = "bad websocket handshake"
HANDSHAKE_REFUSED = "websocket handshake refused"
VIOLATION = "websocket protocol violation"
INVALID_UTF8 = "websocket text is not UTF-8"
MESSAGE_TOO_BIG = "websocket message too big"
INTERNAL = "websocket parser failed"

# RFC 6455, section 7.4.1.
NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NO_STATUS = 1005
ABNORMAL_CLOSURE = 1006
INVALID_DATA = 1007
POLICY_VIOLATION = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011


# --- events: plain classes, so that a Ping is never equal to a Pong of the same bytes -----------------------


@dataclass(slots=True)
class Opened:
    """The handshake succeeded. `headers` of the other side, names in lower case; `path` as requested."""

    path: str
    headers: dict[str, str]
    subprotocol: str | None


@dataclass(slots=True)
class Text:
    """A whole text message, valid UTF-8."""

    data: str


@dataclass(slots=True)
class Binary:
    """A whole binary message."""

    data: bytes


@dataclass(slots=True)
class Ping:
    """A ping; its pong is already among `data_to_send()`."""

    data: bytes


@dataclass(slots=True)
class Pong:
    """A pong, asked for or not."""

    data: bytes


@dataclass(slots=True)
class Closed:
    """The end, once. The peer's code (1005: it gave none), or ours after its error, or 1006: no close frame."""

    code: int
    reason: str


Event = Opened | Text | Binary | Ping | Pong | Closed


class HttpAnswer(NamedTuple):
    """What a server answers instead of a handshake, e.g. /metrics, or 503 at capacity."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


Respond = Callable[[str, Mapping[str, str]], HttpAnswer | None]
