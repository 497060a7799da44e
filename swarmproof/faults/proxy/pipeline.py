"""One direction of one connection under toxics: bytes in, bytes out later, fewer, more, or changed.

    frame toxics -> corrupt -> limit_data -> slicer -> latency -> bandwidth

No sockets and no clock: `feed` and `ready` get the time. The order of bytes is kept (TCP never changes it), only whole
frames change places, and only when asked to.
"""

import random
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable

from swarmproof.faults.proxy.toxics import Toxic, needs_frames

# Corruption is drawn per piece of this size, so that 1 % means the same for a stream of small and of large replies.
PIECE_BYTES = 1024
# A bandwidth is kept in steps of this length: smooth, and not a timer per byte.
BANDWIDTH_STEP_S = 0.02
# A frame that waits for another one to change places with does not wait longer: the last reply of a client must arrive.
EXCHANGE_WITHIN_S = 0.05
# What is held back of one stream. More is not read: the sender feels it, as it would on a slow link.
MAX_HELD_BYTES = 1024 * 1024
# Larger frames are passed on without being looked at as a whole.
MAX_FRAME_BYTES = 1024 * 1024
LENGTH_BYTES = 4
_LENGTH = struct.Struct(">I")


class FrameTracker:
    """Follows `u32 length | body` frames through a stream without keeping them: where does the next one begin?"""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    def skip(self, data: bytes) -> None:
        """`data` passes."""
        position, end = 0, len(data)
        while position < end:
            if self._left:
                step = min(self._left, end - position)
                self._left -= step
                position += step
                continue
            step = min(LENGTH_BYTES - len(self._header), end - position)
            self._header += data[position : position + step]
            position += step
            if len(self._header) == LENGTH_BYTES:
                (self._left,) = _LENGTH.unpack(self._header)
                self._header = b""

    @property
    def rest_bytes(self) -> int | None:
        """Bytes until the next frame begins; None while that is not known (inside a length)."""
        return None if self._header else self._left


class Exchange:
    """Where the streams of one direction of a link meet to swap frames."""

    def __init__(self) -> None:
        self._waiting: tuple[Pipeline, bytes] | None = None

    def offer(self, pipeline: "Pipeline", frame: bytes, now_s: float) -> bytes | None:
        """A frame in return for this one, from another stream; None: it waits."""
        if self._waiting is None or self._waiting[0] is pipeline:
            kept, self._waiting = self._waiting, (pipeline, frame)
            return kept[1] if kept is not None else None
        other, theirs = self._waiting
        self._waiting = None
        pipeline.hits["swap"] += 1
        other.put(frame, now_s)
        other.wake()
        return theirs

    def take_back(self, pipeline: "Pipeline") -> bytes | None:
        """The frame of this stream that still waits."""
        if self._waiting is None or self._waiting[0] is not pipeline:
            return None
        frame = self._waiting[1]
        self._waiting = None
        return frame


class Pipeline:
    """The toxics of one direction at work on one stream. It is thrown away when they change: see `release`."""

    def __init__(
        self,
        toxics: Iterable[Toxic],
        rng: random.Random,
        exchange: Exchange,
        *,
        skip_bytes: int | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`skip_bytes`: until the next frame begins; None when that is not known: frame toxics leave it alone."""
        self.wake = wake
        self.held_bytes = 0
        self.ended = False  # limit_data is used up: nothing more comes, close when `ready` is empty
        self.changed = 0  # frames and pieces that a toxic changed, added or moved
        self.hits: Counter[str] = Counter()  # kind of toxic -> how often it really did something
        self.lost_bytes = 0
        self._rng = rng
        self._exchange = exchange
        by_kind = {toxic.kind: toxic for toxic in toxics}
        self._shares = {kind: toxic.share for kind, toxic in by_kind.items()}
        latency, jitter = by_kind.get("latency"), by_kind.get("jitter")
        self._delaying = [kind for kind in ("latency", "jitter", "bandwidth") if kind in by_kind]
        self._delay_s = latency.delay_s if latency else 0.0
        self._jitter_s = (latency.jitter_s if latency else 0.0) + (jitter.jitter_s if jitter else 0.0)
        slicer, bandwidth, limit = (by_kind.get(kind) for kind in ("slicer", "bandwidth", "limit_data"))
        self._slice_bytes = slicer.size_bytes if slicer else 0
        self._slice_pause_s = slicer.delay_s if slicer else 0.0
        self._rate = bandwidth.size_bytes if bandwidth else 0
        self._left_bytes = limit.size_bytes if limit else None
        self._frames = needs_frames(by_kind.values()) and skip_bytes is not None
        self._skip_bytes = skip_bytes or 0
        self._partial = bytearray()
        self._held_frame: tuple[float, bytes] | None = None  # waits for its successor
        self._swap_due_s: float | None = None
        self._queue: deque[tuple[float, bytes]] = deque()
        self._last_due_s = 0.0
        self._free_at_s = 0.0

    def feed(self, data: bytes, now_s: float) -> None:
        """Bytes from the sender."""
        if self.ended:
            self.lost_bytes += len(data)
            return
        if not self._frames:
            self.put(data, now_s)
            return
        if self._skip_bytes:
            begun, data = data[: self._skip_bytes], data[self._skip_bytes :]
            self._skip_bytes -= len(begun)
            self.put(begun, now_s)
        self._partial += data
        while len(self._partial) >= LENGTH_BYTES:
            (length,) = _LENGTH.unpack_from(self._partial)
            if length > MAX_FRAME_BYTES:  # not such a stream after all
                self._frames = False
                self._release_partial(now_s)
                return
            if len(self._partial) < LENGTH_BYTES + length:
                return
            frame = bytes(self._partial[: LENGTH_BYTES + length])
            del self._partial[: LENGTH_BYTES + length]
            self._pass_frame(frame, now_s)

    def put(self, data: bytes, now_s: float) -> None:
        """Bytes that stay as they are up to here: corrupt, limit, slice, delay."""
        if not data or self.ended:
            self.lost_bytes += len(data)
            return
        if "corrupt" in self._shares:
            data = self._corrupted(data)
        if self._left_bytes is not None:
            allowed = data[: self._left_bytes]
            self._left_bytes -= len(allowed)
            self.lost_bytes += len(data) - len(allowed)
            self.ended = self._left_bytes == 0
            self.hits["limit_data"] += self.ended
            data = allowed
        self.hits["slicer"] += 0 < self._slice_bytes < len(data)
        step = self._slice_bytes or len(data)
        if self._rate:
            step = max(1, min(step, int(self._rate * BANDWIDTH_STEP_S)))
        pause_s = 0.0
        for begin in range(0, len(data), step):
            self._queue_up(data[begin : begin + step], now_s + pause_s)
            pause_s += self._slice_pause_s

    def ready(self, now_s: float) -> bytes:
        """What may leave now."""
        self._release_waiting(now_s)
        queue = self._queue
        if not queue or queue[0][0] > now_s:
            return b""
        parts = []
        while queue and queue[0][0] <= now_s:
            parts.append(queue.popleft()[1])
            if self._slice_bytes:
                break  # a slice leaves alone, or the kernel would put them together again
        data = b"".join(parts)
        self.held_bytes -= len(data)
        return data

    def next_due_s(self) -> float | None:
        """When `ready` has something again; None when nothing is held."""
        times = [self._queue[0][0]] if self._queue else []
        if self._held_frame is not None:
            times.append(self._held_frame[0])
        if self._swap_due_s is not None:
            times.append(self._swap_due_s)
        return min(times, default=None)

    def release(self) -> bytes:
        """The toxics are taken away: everything that was held, in order."""
        now_s = self._last_due_s
        self._delay_s = self._jitter_s = self._slice_pause_s = 0.0
        self._shares, self._rate, self._slice_bytes = {}, 0, 0
        self._release_waiting(float("inf"))
        self._release_partial(now_s)
        data = b"".join(part for _, part in self._queue)
        self._queue.clear()
        self.held_bytes = 0
        return data

    # Frames.

    def _pass_frame(self, frame: bytes, now_s: float) -> None:
        share, draw = self._shares, self._rng.random
        if draw() < share.get("drop", 0.0):
            self._changed_by("drop")
            self.lost_bytes += len(frame)
            return
        if draw() < share.get("swap", 0.0):
            self.changed += 1
            returned = self._exchange.offer(self, frame, now_s)
            self._swap_due_s = now_s + EXCHANGE_WITHIN_S if returned is None else None
            if returned is None:
                return
            frame = returned
        if self._held_frame is None and draw() < share.get("reorder", 0.0):
            self.changed += 1
            self._held_frame = (now_s + EXCHANGE_WITHIN_S, frame)
            return
        self.put(frame, now_s)
        if draw() < share.get("duplicate", 0.0):
            self._changed_by("duplicate")
            self.put(frame, now_s)
        if self._held_frame is not None:
            self.hits["reorder"] += 1  # it has been overtaken
            held, self._held_frame = self._held_frame[1], None
            self.put(held, now_s)

    def _release_waiting(self, now_s: float) -> None:
        """Frames that waited in vain for another go on as they are."""
        if self._held_frame is not None and self._held_frame[0] <= now_s:
            held, self._held_frame = self._held_frame[1], None
            self.put(held, now_s if now_s < float("inf") else self._last_due_s)
        if self._swap_due_s is not None and self._swap_due_s <= now_s:
            self._swap_due_s = None
            frame = self._exchange.take_back(self)
            if frame is not None:
                self.put(frame, now_s if now_s < float("inf") else self._last_due_s)

    def _release_partial(self, now_s: float) -> None:
        data = bytes(self._partial)
        self._partial.clear()
        self.put(data, now_s)

    # Bytes.

    def _corrupted(self, data: bytes) -> bytes:
        changed: bytearray | None = None
        for begin in range(0, len(data), PIECE_BYTES):
            if self._rng.random() < self._shares["corrupt"]:
                changed = changed if changed is not None else bytearray(data)
                place = self._rng.randrange(begin, min(begin + PIECE_BYTES, len(data)))
                changed[place] ^= 1 << self._rng.randrange(8)
                self._changed_by("corrupt")
        return bytes(changed) if changed is not None else data

    def _changed_by(self, kind: str) -> None:
        self.changed += 1
        self.hits[kind] += 1

    def _queue_up(self, data: bytes, now_s: float) -> None:
        for kind in self._delaying:
            self.hits[kind] += 1
        due_s = now_s + self._delay_s
        if self._jitter_s:
            due_s += self._rng.uniform(-self._jitter_s, self._jitter_s)
        due_s = max(due_s, now_s, self._last_due_s)  # what came first leaves first
        if self._rate:
            due_s = max(due_s, self._free_at_s)
            self._free_at_s = due_s + len(data) / self._rate
            due_s = self._free_at_s
        self._last_due_s = due_s
        self._queue.append((due_s, data))
        self.held_bytes += len(data)
