"""Length-prefixed frames: `u32 big-endian length`, then that many bytes (seeds 000 and 004).

The outermost layer of the envelope, key-value and Raft peer protocols. A frame may be empty. A length above
the limit is a protocol error that is seen as soon as its four bytes are there, before any of the body is
kept: a peer cannot make us hold more than one frame of the largest size.
"""

import struct

from protocols.errors import LocalProtocolError, RemoteProtocolError

# Seeds 000 and 004: 1 MiB; a larger announcement is a protocol error, not a request for memory.
MAX_FRAME_BYTES = 1_048_576

LENGTH_BYTES = 4

# Stable reasons of RemoteProtocolError.
FRAME_TOO_LARGE = "frame too large"
TRUNCATED = "connection closed inside a message"

_LENGTH = struct.Struct(">I")
_pack_length = _LENGTH.pack
_unpack_length = _LENGTH.unpack_from


def encode_frame(payload: bytes, max_frame_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """`payload` behind its length.

    >>> encode_frame(b"hi").hex()
    '000000026869'

    Raises LocalProtocolError when it is larger than `max_frame_bytes`.
    """
    length = len(payload)
    if length > max_frame_bytes:
        raise LocalProtocolError(f"a frame of {length} bytes exceeds the limit of {max_frame_bytes}")
    return _pack_length(length) + payload


class FrameDecoder:
    """Cuts a byte stream into frame bodies. Keeps less than `max_frame_bytes` + 4 bytes between two calls."""

    __slots__ = ("_buffer", "_wanted_bytes", "error", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.error: RemoteProtocolError | None = None
        self._buffer = bytearray()
        self._wanted_bytes = LENGTH_BYTES

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished frame are kept."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, oldest first, without their length. See `protocols.errors`."""
        if self.error is not None:
            return []
        buffer = self._buffer
        if buffer:
            buffer += data
            # Nothing to parse before the frame at the head is whole: a large frame that arrives in
            # small pieces costs one copy, not one per piece.
            if len(buffer) < self._wanted_bytes:
                return []
            data = bytes(buffer)
            buffer.clear()
        elif type(data) is not bytes:
            data = bytes(data)  # a bytearray or memoryview that its owner may reuse

        frames: list[bytes] = []
        start, available = 0, len(data)
        wanted = LENGTH_BYTES
        while available - start >= LENGTH_BYTES:
            (length,) = _unpack_length(data, start)
            if length > self.max_frame_bytes:
                self.error = frame_too_large(length, self.max_frame_bytes)
                return frames
            body = start + LENGTH_BYTES
            end = body + length
            if end > available:
                wanted = LENGTH_BYTES + length
                break
            frames.append(data[body:end])
            start = end
        if start < available:
            buffer += data[start:] if start else data
            self._wanted_bytes = wanted
        return frames

    def receive_eof(self) -> None:
        """The peer closed; half a frame becomes the error."""
        if self._buffer and self.error is None:
            self.error = truncated(len(self._buffer))
            self._buffer.clear()


def frame_too_large(length_bytes: int, limit_bytes: int) -> RemoteProtocolError:
    """The error of a length prefix above the limit."""
    return RemoteProtocolError(FRAME_TOO_LARGE, f"{length_bytes} bytes announced, the limit is {limit_bytes}")


def truncated(pending_bytes: int) -> RemoteProtocolError:
    """The error of a stream that ends inside a message."""
    return RemoteProtocolError(TRUNCATED, f"{pending_bytes} bytes of it had arrived")
