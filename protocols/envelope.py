"""The envelope: what travels inside each frame (seed 000), in two codecs that the first byte tells apart.

Binary codec (default), big-endian, 22 bytes of header:

    0 version u8 | 1 msg_type u8 | 2 request_id u64 | 10 timestamp_ms u64 | 18 payload_len u32 | 22 payload

msgpack codec: the array `[version, msg_type, request_id, timestamp_ms, payload(bin)]`, first byte 0x95.

A wrong *version* is a message like any other (it is returned; a server answers it with ERROR, a client counts
a failure); a wrong *shape* is a RemoteProtocolError and the connection's end.

This is the hot path of the load generator: one `pack` or `unpack_from` covers the frame's length and the
whole header, and each payload is sliced once, straight out of what `recv` brought.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final, Literal, NamedTuple, get_args

import msgpack

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.frames import LENGTH_BYTES, MAX_FRAME_BYTES, encode_frame, frame_too_large, truncated

Codec = Literal["binary", "msgpack"]
CODECS: Final = get_args(Codec)

VERSION = 1
HEADER_BYTES = 22
# Seed 000: payload_len above 1 MiB is malformed. Inside a frame of at most 1 MiB the header counts too, so
# the largest payload that fits the default frame is MAX_FRAME_BYTES - HEADER_BYTES.
MAX_PAYLOAD_BYTES = 1_048_576
# The first byte of a msgpack array of five: no binary envelope has the version 0x95.
MSGPACK_FIRST_BYTE = 0x95

# Error texts that servers of this protocol answer with (msg_type ERROR).
UNSUPPORTED_VERSION = b"unsupported protocol version"
SERVER_AT_CAPACITY = b"server at capacity"
SERVER_BUSY = b"server busy"

# Stable reasons of RemoteProtocolError.
ENVELOPE_TOO_SHORT = "envelope too short"
LENGTH_MISMATCH = "envelope length mismatch"
PAYLOAD_TOO_LARGE = "envelope payload too large"
BAD_MSGPACK = "malformed msgpack envelope"


class MsgType(IntEnum):
    """The second field of an envelope."""

    ECHO = 0
    LOG = 1
    ERROR = 2
    KV = 3  # seed 004's key-value requests and replies, see protocols.kv


class Envelope(NamedTuple):
    """One message. Numbers as they stand on the wire; `msg_type` may be one that MsgType does not know."""

    version: int
    msg_type: int
    request_id: int
    timestamp_ms: int
    payload: bytes


_ECHO = int(MsgType.ECHO)
_HEADER = struct.Struct(">BBQQI")
_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from
# The frame's length and the envelope's header in one go.
_FRAMED_HEADER = struct.Struct(">IBBQQI")
_FRAMED_HEADER_BYTES = LENGTH_BYTES + HEADER_BYTES
_pack_framed = _FRAMED_HEADER.pack
_unpack_framed = _FRAMED_HEADER.unpack_from
_unpack_length = struct.Struct(">I").unpack_from
# One packer for all: a new one for each message costs as much as the packing.
_pack = msgpack.Packer(use_bin_type=True).pack
# What a NamedTuple's own constructor does, without its Python frame: a third of the cost of a decode.
_new_envelope = tuple.__new__


def encode_envelope(envelope: Envelope, codec: Codec = "binary") -> bytes:
    """The bytes of one envelope, without a frame.

    >>> encode_envelope(Envelope(1, MsgType.ECHO, 7, 0, b"hi")).hex()
    '010000000000000000070000000000000000000000026869'

    Raises LocalProtocolError for a number that does not fit its field or a payload above 1 MiB.
    """
    version, msg_type, request_id, timestamp_ms, payload = envelope
    _check_payload(payload)
    if codec == "binary":
        try:
            return _pack_header(version, msg_type, request_id, timestamp_ms, len(payload)) + payload
        except struct.error as error:
            raise LocalProtocolError(f"envelope field out of range: {error}") from None
    if codec == "msgpack":
        return _pack_array(version, msg_type, request_id, timestamp_ms, payload)
    raise LocalProtocolError(f"unknown envelope codec {codec!r}: choose one of {', '.join(CODECS)}")


def codec_of(data: bytes) -> Codec:
    """Which codec an unframed envelope is in, by its first byte; a server answers in the same."""
    return "msgpack" if data[:1] == b"\x95" else "binary"


def decode_envelope(data: bytes) -> Envelope:
    """The envelope in one frame's body, in either codec. A wrong version is returned, not refused.

    Raises RemoteProtocolError when it is shorter than its header, its payload is above 1 MiB, its length is
    not header + payload, or its msgpack is not exactly `[u8, u8, u64, u64, bin]`.
    """
    if data[:1] == b"\x95":
        return _decode_msgpack(data)
    if len(data) < HEADER_BYTES:
        raise RemoteProtocolError(ENVELOPE_TOO_SHORT, f"{len(data)} bytes, the header has {HEADER_BYTES}")
    version, msg_type, request_id, timestamp_ms, payload_len = _unpack_header(data)
    if payload_len > MAX_PAYLOAD_BYTES:
        raise RemoteProtocolError(PAYLOAD_TOO_LARGE, f"{payload_len} bytes announced, the limit is {MAX_PAYLOAD_BYTES}")
    if len(data) != HEADER_BYTES + payload_len:
        raise RemoteProtocolError(
            LENGTH_MISMATCH, f"{len(data)} bytes where the header announces {HEADER_BYTES + payload_len}"
        )
    return Envelope(version, msg_type, request_id, timestamp_ms, bytes(data[HEADER_BYTES:]))


class EnvelopeCodec:
    """Envelopes in frames, on one connection: `encode` one, `receive_data` many.

    It sends in `codec` and reads both: a server that refuses before it has read anything ("server at
    capacity") cannot know which codec its client speaks.
    Keeps less than `max_frame_bytes` + 4 bytes between two calls.
    """

    __slots__ = ("_binary", "_buffer", "_wanted_bytes", "codec", "error", "max_frame_bytes")

    def __init__(self, codec: Codec = "binary", max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        if codec not in CODECS:
            raise LocalProtocolError(f"unknown envelope codec {codec!r}: choose one of {', '.join(CODECS)}")
        self.codec: Codec = codec
        self.max_frame_bytes = max_frame_bytes
        self.error: RemoteProtocolError | None = None
        self._binary = codec == "binary"
        self._buffer = bytearray()
        self._wanted_bytes = LENGTH_BYTES

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished frame are kept."""
        return len(self._buffer)

    def encode(
        self,
        request_id: int,
        payload: bytes,
        msg_type: int = _ECHO,
        timestamp_ms: int = 0,
        version: int = VERSION,
    ) -> bytes:
        """One framed envelope, ready to send. Raises LocalProtocolError when something does not fit."""
        payload_len = len(payload)
        if not self._binary:
            envelope = Envelope(version, msg_type, request_id, timestamp_ms, payload)
            return encode_frame(encode_envelope(envelope, "msgpack"), self.max_frame_bytes)
        length = HEADER_BYTES + payload_len
        if length > self.max_frame_bytes:
            raise LocalProtocolError(f"an envelope of {length} bytes exceeds the frame limit of {self.max_frame_bytes}")
        try:
            return _pack_framed(length, version, msg_type, request_id, timestamp_ms, payload_len) + payload
        except struct.error as error:
            raise LocalProtocolError(f"envelope field out of range: {error}") from None

    def receive_data(self, data: bytes) -> list[Envelope]:
        """The envelopes that `data` completes, oldest first. See `protocols.errors` for the contract."""
        if self.error is not None:
            return []
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._wanted_bytes:
                return []
            data = bytes(buffer)
            buffer.clear()
        elif type(data) is not bytes:
            data = bytes(data)

        envelopes: list[Envelope] = []
        start, available = 0, len(data)
        limit = self.max_frame_bytes
        while available - start >= _FRAMED_HEADER_BYTES:
            length, version, msg_type, request_id, timestamp_ms, payload_len = _unpack_framed(data, start)
            end = start + LENGTH_BYTES + length
            if length != HEADER_BYTES + payload_len or length > limit or version == MSGPACK_FIRST_BYTE:
                break  # not a plain binary envelope: the careful path below decides
            if end > available:
                break
            payload = data[start + _FRAMED_HEADER_BYTES : end]
            envelopes.append(_new_envelope(Envelope, (version, msg_type, request_id, timestamp_ms, payload)))
            start = end
        if start < available:
            self._receive_rest(data, start, envelopes)
        return envelopes

    def receive_eof(self) -> None:
        """The peer closed; half a frame becomes the error."""
        if self._buffer and self.error is None:
            self.error = truncated(len(self._buffer))
            self._buffer.clear()

    def _receive_rest(self, data: bytes, start: int, envelopes: list[Envelope]) -> None:
        """Frames that are not plain binary envelopes, and the unfinished frame at the end."""
        available = len(data)
        wanted = LENGTH_BYTES
        while available - start >= LENGTH_BYTES:
            (length,) = _unpack_length(data, start)
            if length > self.max_frame_bytes:
                self.error = frame_too_large(length, self.max_frame_bytes)
                return
            body = start + LENGTH_BYTES
            end = body + length
            if end > available:
                wanted = LENGTH_BYTES + length
                break
            try:
                envelopes.append(decode_envelope(data[body:end]))
            except RemoteProtocolError as error:
                self.error = error
                return
            start = end
        if start < available:
            self._buffer += data[start:]
            self._wanted_bytes = wanted


@lru_cache(maxsize=8)
def echo_writer(payload_bytes: int) -> "EchoWriter":
    """The one of this size: thousands of connections that share it find it in the processor's cache."""
    return EchoWriter(payload_bytes)


class EchoWriter:
    """Framed binary ECHO envelopes with payloads of one size, many at once.

    The bytes are those of `EnvelopeCodec.encode`. As an echo must come back as it went, they are also the bytes of
    the replies: a stream of replies equal to them decodes to the same envelopes.
    """

    __slots__ = ("_head", "_pack", "unit_bytes")

    def __init__(self, payload_bytes: int) -> None:
        if payload_bytes > MAX_FRAME_BYTES - HEADER_BYTES:
            raise LocalProtocolError(f"an envelope payload of {payload_bytes} bytes does not fit a frame")
        self.unit_bytes = _FRAMED_HEADER_BYTES + payload_bytes
        self._head = (HEADER_BYTES + payload_bytes, VERSION, _ECHO, payload_bytes)
        # `s` copies a payload of exactly this size in the same call that packs the header.
        self._pack = struct.Struct(f">IBBQQI{payload_bytes}s").pack

    def encode(self, request_id: int, timestamp_ms: int, payload: bytes) -> bytes:
        """One framed envelope; `payload` has the writer's size."""
        length, version, msg_type, payload_len = self._head
        return self._pack(length, version, msg_type, request_id, timestamp_ms, payload_len, payload)

    def encode_many(self, request_ids: Sequence[int], timestamp_ms: int, payloads: Sequence[bytes]) -> bytes:
        """One after the other."""
        pack = self._pack
        length, version, msg_type, payload_len = self._head
        return b"".join(
            [
                pack(length, version, msg_type, request_id, timestamp_ms, payload_len, payload)
                for request_id, payload in zip(request_ids, payloads, strict=True)
            ]
        )


def _check_payload(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise LocalProtocolError(
            f"an envelope payload of {len(payload)} bytes exceeds the limit of {MAX_PAYLOAD_BYTES}"
        )


def _pack_array(version: int, msg_type: int, request_id: int, timestamp_ms: int, payload: bytes) -> bytes:
    try:
        # msgpack would happily widen or sign a number that the binary codec refuses: both carry the same.
        _pack_header(version, msg_type, request_id, timestamp_ms, len(payload))
    except struct.error as error:
        raise LocalProtocolError(f"envelope field out of range: {error}") from None
    if not isinstance(payload, bytes | bytearray | memoryview):  # a text would travel as another msgpack type
        raise LocalProtocolError(f"an envelope payload is bytes, not {type(payload).__name__}")
    packed: bytes = _pack((version, int(msg_type), request_id, timestamp_ms, payload))
    return packed


def _decode_msgpack(data: bytes) -> Envelope:
    try:
        # Limits on everything that is not the payload: maps, strings and extensions have no place here.
        fields = msgpack.unpackb(
            data,
            raw=False,
            max_array_len=5,
            max_map_len=0,
            max_str_len=0,
            max_ext_len=0,
            max_bin_len=MAX_PAYLOAD_BYTES,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(BAD_MSGPACK, f"{type(error).__name__}: {error}"[:200]) from None
    version, msg_type, request_id, timestamp_ms, payload = fields
    if not (
        type(version) is int
        and 0 <= version <= 0xFF
        and type(msg_type) is int
        and 0 <= msg_type <= 0xFF
        and type(request_id) is int
        and request_id >= 0
        and type(timestamp_ms) is int
        and timestamp_ms >= 0
        and type(payload) is bytes
    ):
        raise RemoteProtocolError(BAD_MSGPACK, "the array is not [u8, u8, u64, u64, bin]")
    return Envelope(version, msg_type, request_id, timestamp_ms, payload)
