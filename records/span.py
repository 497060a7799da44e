"""From when to when a load ran: what a rate is divided by, and which seconds of it are whole.

A load begins and ends somewhere within a second. Whoever divides by the seconds that it touched finds too little: of
1000 requests a second for ten seconds, 909.
"""

import math
from dataclasses import dataclass

_S_PER_NS = 1e-9

#: A load whose end nobody has told ends with its newest sample: of less than a second that would say nothing.
_LEAST_S = 1.0


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds of the monotonic clock. `blur_s`: by so much the histograms' seconds may lie beside whole ones."""

    begin_s: float
    end_s: float
    blur_s: float = 0.0

    @classmethod
    def of(cls, load_ns: tuple[int | None, int | None], samples_ns: tuple[int, int] | None, blur_ns: int = 0) -> "Span":
        """Of what the load says of itself (None: nothing), else of the first and the last sample."""
        first_ns, last_ns = samples_ns or (load_ns[0] or 0, load_ns[0] or 0)
        begin_ns, end_ns = load_ns
        begin_s = (first_ns if begin_ns is None else begin_ns) * _S_PER_NS
        end_s = (last_ns if end_ns is None else end_ns) * _S_PER_NS
        if begin_ns is None or end_ns is None:
            end_s = max(end_s, begin_s + _LEAST_S)
        return cls(begin_s, end_s, blur_ns * _S_PER_NS)

    def overlap_s(self, start_s: float, end_s: float) -> float:
        """How much of a stretch the load ran for."""
        return max(0.0, min(end_s, self.end_s) - max(start_s, self.begin_s))

    def whole_seconds(self) -> tuple[int, int]:
        """[start, end) of the seconds that the load filled; none when start is not below end."""
        return math.ceil(self.begin_s + self.blur_s), math.floor(self.end_s - self.blur_s)
