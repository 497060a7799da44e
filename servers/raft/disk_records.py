"""Records on disk: how one is laid out, and how to tell a torn one from a damaged one.

    0: magic "sR" | 2: kind u8 | 3: body length u32 | 7: CRC-32C of the body | 11: CRC-32C of bytes 0-10 | 15: body "."

All numbers are big-endian. The header has a checksum of its own, so that a length can be believed before the body
is read. The full stop at the end is not zero, so that a record whose last page never arrived can be told.

One record is one group commit: it is written in one go and synced before the next is written. So of all the
records of a log only the last can be torn, and a torn one is allowed: it was never synced, nobody was told of it.
A write that a crash cut short leaves the file too short, or pages of zeros where data never arrived. Anything else
that does not match its checksum was once whole and has changed since: damage, which is refused and not guessed about.
"""

import struct
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c
import msgpack

MAGIC: Final = b"sR"
END: Final = b"."
_FIELDS: Final = struct.Struct(">2sBII")
_CHECKSUM: Final = struct.Struct(">I")
HEADER_BYTES: Final = _FIELDS.size + _CHECKSUM.size
# The least that a disk writes at once: data that never arrived shows as a whole sector of zeros.
SECTOR_BYTES: Final = 512
MAX_BODY_BYTES: Final = 2**32 - 1


class LogCorrupt(Exception):
    """A file that was durable has changed. Nothing is repaired: which writes are lost is not knowable from here."""

    def __init__(self, file: Path, offset: int, what: str) -> None:
        super().__init__(
            f"{file} is damaged at byte {offset}: {what}. The node does not start: it would forget what it promised. "
            "Restore the file; an emptied directory is safe only while all other nodes are up and hold everything"
        )
        self.file = file
        self.offset = offset
        self.what = what


class Record(NamedTuple):
    offset: int
    kind: int
    body: bytes


def encode_record(kind: int, body: bytes) -> bytes:
    """A record ready to be written in one go."""
    fields = _FIELDS.pack(MAGIC, kind, len(body), google_crc32c.value(body))
    return b"".join((fields, _CHECKSUM.pack(google_crc32c.value(fields)), body, END))


def scan_records(file: Path, data: bytes, *, may_be_torn: bool) -> tuple[list[Record], int]:
    """All records of a file, and the offset where the whole ones end.

    Raises LogCorrupt for damage, and for a torn end unless `may_be_torn`.
    """
    records: list[Record] = []
    offset = 0
    size = len(data)
    while offset < size:
        fault = None
        end = size
        if size - offset < HEADER_BYTES:
            fault = "the file ends inside a record's header"
        else:
            magic, kind, length, checksum = _FIELDS.unpack_from(data, offset)
            (header_checksum,) = _CHECKSUM.unpack_from(data, offset + _FIELDS.size)
            if magic != MAGIC or header_checksum != google_crc32c.value(data[offset : offset + _FIELDS.size]):
                fault = "a record's header does not match its checksum"
            elif offset + HEADER_BYTES + length + len(END) > size:
                fault = "the file ends inside a record"
            else:
                end = offset + HEADER_BYTES + length + len(END)
                body = data[offset + HEADER_BYTES : end - len(END)]
                if google_crc32c.value(body) != checksum or data[end - len(END) : end] != END:
                    fault = "a record does not match its checksum"
        if fault is not None:
            if may_be_torn and end == size and _looks_torn(data, offset, fault):
                return records, offset
            raise LogCorrupt(file, offset, fault)
        records.append(Record(offset, kind, body))
        offset = end
    return records, offset


def unpack_body(file: Path, record: Record, items: int) -> list[object]:
    """The msgpack array of `items` elements in a record's body."""
    try:
        fields = msgpack.unpackb(record.body, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise LogCorrupt(file, record.offset, f"a record's body is not readable: {error}") from error
    if type(fields) is not list or len(fields) != items:
        raise LogCorrupt(file, record.offset, "a record's body has another shape")
    return fields


def _looks_torn(data: bytes, offset: int, fault: str) -> bool:
    """Whether the bytes from `offset` to the end can be what a cut-short write left behind."""
    if fault.startswith("the file ends"):
        return True
    if _header_after(data, offset):
        return False  # a later record was written, so this one had been synced
    # The sectors are the file's: its first byte begins one.
    start = offset
    while start < len(data):
        end = min(len(data), (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if not any(data[start:end]):
            return True
        start = end
    return False


def _header_after(data: bytes, offset: int) -> bool:
    """Whether a record begins somewhere behind `offset`."""
    place = offset
    while (place := data.find(MAGIC, place + 1)) != -1:
        if len(data) - place < HEADER_BYTES:
            return False
        (checksum,) = _CHECKSUM.unpack_from(data, place + _FIELDS.size)
        if checksum == google_crc32c.value(data[place : place + _FIELDS.size]):
            return True
    return False
