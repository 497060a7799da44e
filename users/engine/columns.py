"""What is under way at full throttle, in columns by descriptor.

With thousands of connections what a round trip costs is the memory that it touches: none of it is in the processor's
cache when a connection's turn comes round. An exchange, its lists and its times are objects spread over some thirty
cache lines. So while a connection does nothing but send and be answered as foretold, what is under way on it stands
here: eight connections' times share a cache line, and the exchange is not looked at (`users.engine.express`).
"""

from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from users.engine.express import Express

_FIRST_SIZE = 64


class Columns:
    """One engine's. Each column has a place for every descriptor that was reserved."""

    def __init__(self) -> None:
        self._size = 0
        self._all: list[tuple[Any, Any]] = []
        #: The bytes that answer all requests under way; empty where that cannot be told, or is the exchange's business.
        self.due: list[bytes] = self.objects(b"")
        self.expresses: list[Express | None] = self.objects(None)
        self.places = self.numbers()
        self.intended_ns = self.numbers()
        self.call_ns = self.numbers()
        #: The id that was issued last; of every open connection.
        self.ids = self.numbers("Q")
        self._known: dict[Any, Express] = {}

    def objects(self, filler: Any) -> list[Any]:
        """A new column of anything."""
        column = [filler] * self._size
        self._all.append((column, filler))
        return column

    def numbers(self, code: str = "q") -> Any:
        """A new column of integers; `code` as for `array`."""
        column = array(code, [0]) * self._size
        self._all.append((column, 0))
        return column

    def reserve(self, fd: int) -> None:
        """Have a place for this descriptor in each column. The columns stay the same objects."""
        if fd < self._size:
            return
        size = max(_FIRST_SIZE, 2 * self._size, fd + 1)
        for column, filler in self._all:
            column.extend([filler] * (size - self._size))
        self._size = size

    def express_of(self, kind: "type[Express]", *options: Any) -> Any:
        """The express of this kind with these options (hashable): one for all connections that share them."""
        express = self._known.get((kind, options))
        if express is None:
            express = self._known[kind, options] = kind(self, *options)
        return express
