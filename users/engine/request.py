"""One request of the engine, and the places that may send one."""

from typing import Any


class Request:
    """One request under way or to be tried again. `call_ns`: this attempt; `first_call_ns`: the first one."""

    # Defaults of the class: most requests never set these, and setting ten attributes costs as much as sending.
    request_id: Any = None
    expected: Any = None
    foretold: Any = None  # see users.engine.websocket_rpc
    caller: Any = None  # what the circuit breaker knows it by, if it is one of its trials
    call_ns = 0
    first_call_ns = 0
    tries = 0

    def __init__(self, name: str, what: Any, length: int, intended_ns: int) -> None:
        self.name = name
        self.what = what
        self.length = length
        self.intended_ns = intended_ns


#: A place that may send: when its request was meant to go, and the request if it is another attempt, or a trial of
#: the circuit breaker's.
Ready = tuple[int, Request | None]
