"""Why a request failed, in words that never change with ids, ports or payloads.

    RequestFailure
    ├── CheckFailed        a reply came and was not what the request asked for (its kind is a records.violations text)
    ├── ReplyTimeout       nothing came in time
    ├── ConnectionLost     the stream ended while the request was under way
    ├── ConnectFailed      there was no connection to send it on
    └── ServerRefused      the server answered, and said no

Locust keys its error table by the text of the exception, so the text is all that `repr` shows: the same failure
is one line of the table, however often and wherever it happens.
"""

from records import violations


class RequestFailure(Exception):
    """A request that did not succeed. `str()` is stable text of low cardinality."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text


class CheckFailed(RequestFailure):
    """The reply broke the protocol; `text` starts with the kind of violation it was recorded as."""


class ReplyTimeout(RequestFailure):
    """No reply within the timeout. Its connection may be fine: only what became of this request is unknown."""

    def __init__(self) -> None:
        super().__init__(f"{violations.MISSING}: nothing came within the timeout")


class ConnectionLost(RequestFailure):
    """The connection ended under the request: whether the server acted on it is unknown."""


class ConnectFailed(RequestFailure):
    """No connection could be made: the request was never sent."""


class ServerRefused(RequestFailure):
    """The server answered that it will not do it; `busy` when it asked to be asked again later."""

    def __init__(self, text: str, *, busy: bool = False) -> None:
        super().__init__(text)
        self.busy = busy
