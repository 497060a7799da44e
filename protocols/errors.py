"""Who broke the protocol: we or they.

    ProtocolError
    ├── LocalProtocolError     our caller asked for something that cannot be sent: a bug on this side
    └── RemoteProtocolError    the peer sent something that cannot be read: its fault, and its connection's end

The two are never mixed (as in h11): a local error is raised where the mistake is made; a remote one is
*recorded*, because a hostile byte must not blow up a loop that serves a thousand other connections.

The contract of every stream decoder in this room:

    messages = decoder.receive_data(data)   # never raises on remote bytes
    if decoder.error is not None: ...       # close this connection, keep the others

`receive_data` returns the messages that were complete and well-formed before the fault and then sets
`error`; later calls return []. `receive_eof()` says that the peer closed: an unfinished message then
becomes the error. What is buffered between two calls is bounded by the limit that each decoder names.
"""


class ProtocolError(Exception):
    """Something that the protocol does not allow. Never raised itself: see the two subclasses."""


class LocalProtocolError(ProtocolError):
    """This side asked for something that the protocol does not allow (too large, wrong type, wrong state)."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    `reason` is stable text of low cardinality ("frame too large"): it may be a metric label or the key of an
    error table. `detail` holds the particulars (sizes, values) and goes to logs and records only.
    `str()` is "reason: detail".
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason
