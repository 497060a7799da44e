"""F00D device packets and their two acknowledgements (seed 003).

    F0 0D | version 01 | u32 BE payload length | JSON, UTF-8

A packet: `{"opcode":"toggle","device_id":...,"msg_id":...,"state":true}`. The original device answers the raw
bytes `ACK`, unframed, which names no packet: it can only be matched by order. The framed acknowledgement
`{"opcode":"ack","msg_id":...}`, in the same framing, names its packet, and is what pipelined load uses.

Every decoding fault has one of five reasons (`DecodeReason`), because the device counts them by reason
(`tcp_comm_decode_errors_total{device_id,reason}`). Magic and version are refused at the first wrong byte.
"""

import struct
from enum import StrEnum
from random import Random
from typing import Final, Generic, NamedTuple, TypeVar

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.frames import truncated
from protocols.json_text import BadJson, dump_json, load_json

MAGIC = 0xF00D
VERSION = 1
HEADER_BYTES = 7
# A device packet has some 100 bytes; devices have little memory. 64 KiB leaves room for long device ids.
MAX_PAYLOAD_BYTES = 65_536
# Identifiers are labels of metrics and keys of tables on the other side.
MAX_DEVICE_ID_CHARS = 256
MAX_OPCODE_CHARS = 64
# What `new_msg_id` makes. The seed's own example has 12 digits, so on receipt 1 to 64 are accepted.
MSG_ID_DIGITS = 16
MAX_MSG_ID_DIGITS = 64

TOGGLE = "toggle"
ACK = "ack"
RAW_ACK = b"ACK"
# Stable reason for raw replies that are not exactly RAW_ACK.
BAD_ACK = "wrong acknowledgement"

_HEADER = struct.Struct(">HBI")
_MAGIC_BYTES = MAGIC.to_bytes(2, "big")
_PREFIX = _MAGIC_BYTES + bytes([VERSION])
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


class DecodeReason(StrEnum):
    """Why a packet was refused; the `reason` of the RemoteProtocolError and label of the metric."""

    BAD_MAGIC = "bad_magic"
    BAD_VERSION = "bad_version"
    BAD_LENGTH = "bad_length"  # zero, or above the limit
    BAD_JSON = "bad_json"  # not UTF-8, not JSON, or not an object
    BAD_FIELDS = "bad_fields"  # a field is missing or of the wrong type


class Packet(NamedTuple):
    """One command to a device."""

    opcode: str
    device_id: str
    msg_id: str
    state: bool


def new_msg_id(rng: Random) -> str:
    """A fresh message id: 16 hex digits from `rng`."""
    return f"{rng.getrandbits(64):0{MSG_ID_DIGITS}x}"


def encode_packet(packet: Packet, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> bytes:
    """The packet as the device reads it. Raises LocalProtocolError for fields that its decoder would refuse.

    >>> encode_packet(Packet("toggle", "D1", "00000000000000ff", True))[:7].hex()
    'f00d010000004d'
    """
    fault = _packet_fault(packet.opcode, packet.device_id, packet.msg_id, packet.state)
    if fault:
        raise LocalProtocolError(fault)
    return _encode(packet._asdict(), max_payload_bytes)


def encode_ack(msg_id: str) -> bytes:
    """The framed acknowledgement of one packet."""
    if not _is_msg_id(msg_id):
        raise LocalProtocolError(f"msg_id must be 1 to {MAX_MSG_ID_DIGITS} hex digits, not {msg_id!r}")
    return _encode({"opcode": ACK, "msg_id": msg_id}, MAX_PAYLOAD_BYTES)


#: What follows the msg_id in a packet that switches off, and in one that switches on.
PACKET_TAILS: Final = (b'","state":false}', b'","state":true}')


def packet_heads(device_id: str, opcode: str = TOGGLE) -> tuple[bytes, bytes]:
    """What stands before the msg_id in packets of one device: in those that switch off, and in those that switch on.

    `packet_heads(device_id)[state] + msg_id + PACKET_TAILS[state]` are the bytes of `encode_packet`, for a msg_id of
    MSG_ID_DIGITS digits: JSON of digits is the digits, and what stands around them is always the same.
    """
    off, on = (encode_packet(Packet(opcode, device_id, "0" * MSG_ID_DIGITS, state)) for state in (False, True))
    return off[: -len(PACKET_TAILS[0]) - MSG_ID_DIGITS], on[: -len(PACKET_TAILS[1]) - MSG_ID_DIGITS]


Message = TypeVar("Message")


class _Decoder(Generic[Message]):
    """The framing, shared by packets and framed acknowledgements; a subclass reads the JSON object.

    Keeps less than `max_payload_bytes` + 7 bytes between two calls.
    """

    def __init__(self, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self.max_payload_bytes = max_payload_bytes
        self.error: RemoteProtocolError | None = None
        self._buffer = bytearray()
        self._wanted_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished packet are kept."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> list[Message]:
        """The messages that `data` completes, oldest first. See `protocols.errors` for the contract."""
        if self.error is not None:
            return []
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._wanted_bytes:
            return []
        stream = bytes(buffer)
        buffer.clear()
        messages: list[Message] = []
        try:
            rest = self._parse(stream, messages)
        except RemoteProtocolError as error:
            self.error = error
        else:
            buffer += stream[rest:]
        return messages

    def receive_eof(self) -> None:
        """The peer closed; half a packet becomes the error."""
        if self._buffer and self.error is None:
            self.error = truncated(len(self._buffer))
            self._buffer.clear()

    def _parse(self, stream: bytes, messages: list[Message]) -> int:
        """Append what is complete to `messages`; return where the unfinished packet starts."""
        start = 0
        while len(stream) - start >= HEADER_BYTES:
            magic, version, length = _HEADER.unpack_from(stream, start)
            if magic != MAGIC or version != VERSION:
                raise _prefix_fault(stream[start : start + len(_PREFIX)])
            if not 0 < length <= self.max_payload_bytes:
                detail = f"{length} bytes announced, allowed are 1 to {self.max_payload_bytes}"
                raise RemoteProtocolError(DecodeReason.BAD_LENGTH, detail)
            body = start + HEADER_BYTES
            if body + length > len(stream):
                self._wanted_bytes = HEADER_BYTES + length
                return start
            messages.append(self._read(_load_object(stream[body : body + length])))
            start = body + length
        rest = stream[start : start + len(_PREFIX)]
        if not _PREFIX.startswith(rest):
            raise _prefix_fault(rest)
        self._wanted_bytes = 0
        return start

    def _read(self, fields: dict[str, object]) -> Message:
        raise NotImplementedError


class PacketDecoder(_Decoder[Packet]):
    """What the device runs: packets out of the stream. Unknown extra fields are ignored."""

    def _read(self, fields: dict[str, object]) -> Packet:
        opcode, device_id = fields.get("opcode"), fields.get("device_id")
        msg_id, state = fields.get("msg_id"), fields.get("state")
        fault = _packet_fault(opcode, device_id, msg_id, state)
        if fault:
            raise RemoteProtocolError(DecodeReason.BAD_FIELDS, fault)
        return Packet(opcode, device_id, msg_id, state)  # type: ignore[arg-type]  # _packet_fault checked them


class FramedAckDecoder(_Decoder[str]):
    """What a client with `--ack framed` runs: the msg_ids of the acknowledged packets."""

    def _read(self, fields: dict[str, object]) -> str:
        if fields.get("opcode") != ACK:
            raise RemoteProtocolError(DecodeReason.BAD_FIELDS, 'opcode is not "ack"')
        msg_id = fields.get("msg_id")
        if not _is_msg_id(msg_id):
            raise RemoteProtocolError(DecodeReason.BAD_FIELDS, "msg_id is not hex digits")
        return str(msg_id)


class RawAckDecoder:
    """What a client of the original device runs: unframed acknowledgements, one RAW_ACK for each.

    `accept_any`: any non-empty reply counts as one acknowledgement, as in the original client; such replies
    cannot be pipelined. Otherwise the first byte that does not belong to RAW_ACK is the error.
    """

    def __init__(self, accept_any: bool = False) -> None:
        self.accept_any = accept_any
        self.error: RemoteProtocolError | None = None
        self._pending = b""

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an unfinished acknowledgement are kept (at most 2)."""
        return len(self._pending)

    def receive_data(self, data: bytes) -> list[bytes]:
        """The acknowledgements that `data` completes. See `protocols.errors` for the contract."""
        if self.error is not None or not data:
            return []
        if self.accept_any:
            return [bytes(data)]
        stream = self._pending + data
        acks = []
        start = 0
        while stream.startswith(RAW_ACK, start):
            acks.append(RAW_ACK)
            start += len(RAW_ACK)
        rest = stream[start : start + len(RAW_ACK)]
        if RAW_ACK.startswith(rest):
            self._pending = rest
        else:
            self._pending = b""
            self.error = RemoteProtocolError(BAD_ACK, f"{bytes(rest)!r} where {RAW_ACK!r} was due")
        return acks

    def receive_eof(self) -> None:
        """The peer closed; half an acknowledgement becomes the error."""
        if self._pending and self.error is None:
            self.error = truncated(len(self._pending))
            self._pending = b""


def _encode(fields: dict[str, object], max_payload_bytes: int) -> bytes:
    try:
        payload = dump_json(fields)
    except BadJson as error:
        raise LocalProtocolError(f"a packet cannot carry this: {error}") from None
    if len(payload) > max_payload_bytes:
        raise LocalProtocolError(f"a packet of {len(payload)} bytes exceeds the limit of {max_payload_bytes}")
    return _HEADER.pack(MAGIC, VERSION, len(payload)) + payload


def _load_object(payload: bytes) -> dict[str, object]:
    try:
        value = load_json(payload)
    except BadJson as error:
        raise RemoteProtocolError(DecodeReason.BAD_JSON, str(error)) from None
    if not isinstance(value, dict):
        raise RemoteProtocolError(DecodeReason.BAD_JSON, "not a JSON object")
    return value


def _prefix_fault(prefix: bytes) -> RemoteProtocolError:
    if not _MAGIC_BYTES.startswith(prefix[:2]):
        return RemoteProtocolError(DecodeReason.BAD_MAGIC, f"{prefix[:2].hex(' ')} where f0 0d was due")
    return RemoteProtocolError(DecodeReason.BAD_VERSION, f"version {prefix[2]}, this is version {VERSION}")


def _packet_fault(opcode: object, device_id: object, msg_id: object, state: object) -> str:
    """What is wrong with a packet's fields, or ""."""
    if not (isinstance(opcode, str) and 0 < len(opcode) <= MAX_OPCODE_CHARS):
        return f"opcode is not a text of 1 to {MAX_OPCODE_CHARS} characters"
    if not (isinstance(device_id, str) and 0 < len(device_id) <= MAX_DEVICE_ID_CHARS):
        return f"device_id is not a text of 1 to {MAX_DEVICE_ID_CHARS} characters"
    if not _is_msg_id(msg_id):
        return f"msg_id is not 1 to {MAX_MSG_ID_DIGITS} hex digits"
    if not isinstance(state, bool):
        return "state is not true or false"
    return ""


def _is_msg_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_MSG_ID_DIGITS and _HEX_DIGITS.issuperset(value)


#: What stands before and after the 16 digits of a msg_id in the bytes of `encode_ack`.
ACK_HEAD = encode_ack("0" * MSG_ID_DIGITS)[: -MSG_ID_DIGITS - 2]
ACK_TAIL = b'"}'
