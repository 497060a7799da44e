"""What a WebSocket endpoint must do, case by case: after the Autobahn test suite's list (cases 1 to 7 and 9).

A case is what is sent after the handshake, the messages that must come back from an echo, the pongs, and the close
code that must follow. `close` None: the connection stays open.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
MASK = b"\x12\x34\x56\x78"


class Frame(NamedTuple):
    opcode: int
    payload: bytes = b""
    fin: bool = True
    reserved: int = 0

    def wire(self, masked: bool) -> bytes:
        first = (0x80 if self.fin else 0) | self.reserved << 4 | self.opcode
        bit, size = (0x80 if masked else 0), len(self.payload)
        if size < 126:
            head = struct.pack(">BB", first, bit | size)
        elif size < 65_536:
            head = struct.pack(">BBH", first, bit | 126, size)
        else:
            head = struct.pack(">BBQ", first, bit | 127, size)
        if not masked:
            return head + self.payload
        repeated = (MASK * (size // 4 + 1))[:size]
        mixed = int.from_bytes(self.payload, "big") ^ int.from_bytes(repeated, "big")
        return head + MASK + mixed.to_bytes(size, "big")


class Case(NamedTuple):
    id: str
    sent: tuple[Frame, ...]
    messages: tuple[str | bytes, ...] = ()
    pongs: tuple[bytes, ...] = ()
    close: int | None = None
    chop: int = 0  # bytes of each write, 0 = all at once


HELLO = b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!"
VALID_UTF8 = (
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
    b"\x00",
    b"\xc2\x80",
    b"\xe0\xa0\x80",
    b"\xf0\x90\x80\x80",
    b"\x7f",
    b"\xdf\xbf",
    b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf",
    b"\xed\x9f\xbf",
    b"\xee\x80\x80",
    b"\xef\xbf\xbd",
)
INVALID_UTF8 = (
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\x80",
    b"\xbf",
    b"\x80\xbf",
    b"\xc0 \xc1 ",
    b"\xe0 \xe1 ",
    b"\xfe",
    b"\xff",
    b"\xc0",
    b"\xe0\x80",
    b"\xf0\x80\x80",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
)
VALID_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
INVALID_CODES = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)


def close_frame(code: int, reason: bytes = b"") -> Frame:
    return Frame(CLOSE, struct.pack(">H", code) + reason)


def fragments(opcode: int, payload: bytes, size: int) -> tuple[Frame, ...]:
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    last = len(pieces) - 1
    return tuple(Frame(CONTINUATION if n else opcode, piece, n == last) for n, piece in enumerate(pieces))


def framing() -> Iterator[Case]:
    for number, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536), 1):
        yield Case(f"1.1.{number}", (Frame(TEXT, b"*" * size),), ("*" * size,))
        yield Case(f"1.2.{number}", (Frame(BINARY, b"\xfe" * size),), (b"\xfe" * size,))
    yield Case("1.1.8", (Frame(TEXT, b"*" * 65_536),), ("*" * 65_536,), chop=997)
    yield Case("1.2.8", (Frame(BINARY, b"\xfe" * 65_536),), (b"\xfe" * 65_536,), chop=997)


def pings() -> Iterator[Case]:
    for number, payload in enumerate((b"", b"Hello, world!", bytes(range(200, 210)), b"\xfe" * 125), 1):
        yield Case(f"2.{number}", (Frame(PING, payload),), pongs=(payload,))
    yield Case("2.5", (Frame(PING, b"\xfe" * 126),), close=1002)
    yield Case("2.6", (Frame(PING, b"\xfe" * 125),), pongs=(b"\xfe" * 125,), chop=1)
    yield Case("2.7", (Frame(PONG),))
    yield Case("2.8", (Frame(PONG, b"unsolicited"),))
    yield Case("2.9", (Frame(PONG, b"unsolicited"), Frame(PING, b"ping")), pongs=(b"ping",))
    ten = tuple(b"payload-%d" % n for n in range(10))
    yield Case("2.10", tuple(Frame(PING, payload) for payload in ten), pongs=ten)
    yield Case("2.11", tuple(Frame(PING, payload) for payload in ten), pongs=ten, chop=1)


def reserved() -> Iterator[Case]:
    hello = Frame(TEXT, b"Hello, world!")
    yield Case("3.1", (Frame(TEXT, b"x", reserved=1),), close=1002)
    for number, chop in ((2, 0), (3, 7), (4, 1)):
        bad = Frame(TEXT, b"x", reserved=number)
        yield Case(f"3.{number}", (hello, bad, Frame(PING)), ("Hello, world!",), close=1002, chop=chop)
    yield Case("3.5", (Frame(BINARY, b"\0" * 8, reserved=5),), close=1002)
    yield Case("3.6", (Frame(PING, b"x", reserved=6),), close=1002)
    yield Case("3.7", (Frame(CLOSE, b"", reserved=7),), close=1002)


def opcodes() -> Iterator[Case]:
    hello = Frame(TEXT, b"Hello, world!")
    for group, first in ((1, 3), (2, 11)):
        yield Case(f"4.{group}.1", (Frame(first),), close=1002)
        yield Case(f"4.{group}.2", (Frame(first + 1, b"reserved"),), close=1002)
        for number, chop in ((3, 0), (4, 9), (5, 1)):
            bad = Frame(first + number - 1, b"x" * (number > 3))
            yield Case(f"4.{group}.{number}", (hello, bad, Frame(PING)), ("Hello, world!",), close=1002, chop=chop)


def fragmentation() -> Iterator[Case]:
    yield Case("5.1", fragments(PING, b"fragment1fragment2", 9), close=1002)
    yield Case("5.2", fragments(PONG, b"fragment1fragment2", 9), close=1002)
    both = fragments(TEXT, b"fragment1fragment2", 9)
    for number, chop in ((3, 0), (4, 7), (5, 1)):
        yield Case(f"5.{number}", both, ("fragment1fragment2",), chop=chop)
    between = (both[0], Frame(PING, b"ping"), both[1])
    for number, chop in ((6, 0), (7, 7), (8, 1)):
        yield Case(f"5.{number}", between, ("fragment1fragment2",), (b"ping",), chop=chop)
    stray, hello = Frame(CONTINUATION, b"non-continuation"), Frame(TEXT, b"Hello, world!")
    for number, chop in ((9, 0), (10, 7), (11, 1)):
        yield Case(f"5.{number}", (stray, hello), close=1002, chop=chop)
    for number, chop in ((12, 0), (13, 7), (14, 1)):
        yield Case(f"5.{number}", (stray._replace(fin=False), hello), close=1002, chop=chop)
    yield Case("5.15", (*both, stray._replace(fin=False), hello), ("fragment1fragment2",), close=1002)
    yield Case("5.16", (stray._replace(fin=False), hello, hello), close=1002)
    yield Case("5.17", (stray, hello, hello), close=1002)
    yield Case("5.18", (both[0], Frame(TEXT, b"fragment2")), close=1002)
    five = fragments(TEXT, b"fragment1fragment2fragment3fragment4fragment5", 9)
    woven = (*five[:2], Frame(PING, b"one"), *five[2:4], Frame(PING, b"two"), five[4])
    for number, chop in ((19, 0), (20, 11)):
        yield Case(
            f"5.{number}", woven, ("fragment1fragment2fragment3fragment4fragment5",), (b"one", b"two"), chop=chop
        )


def utf8() -> Iterator[Case]:
    yield Case("6.1.1", (Frame(TEXT),), ("",))
    empty = (Frame(TEXT, b"", False), Frame(CONTINUATION, b"", False), Frame(CONTINUATION, b""))
    yield Case("6.1.2", empty, ("",))
    yield Case("6.1.3", (empty[0], Frame(CONTINUATION, b"middle", False), empty[2]), ("middle",))
    text = HELLO.decode()
    for number, pieces in enumerate(((Frame(TEXT, HELLO),), fragments(TEXT, HELLO, 7), fragments(TEXT, HELLO, 1)), 1):
        yield Case(f"6.2.{number}", pieces, (text,))
    yield Case("6.3.1", (Frame(TEXT, INVALID_UTF8[0]),), close=1007)
    yield Case("6.3.2", fragments(TEXT, INVALID_UTF8[0], 1), close=1007)
    for number, valid in enumerate(VALID_UTF8, 1):
        yield Case(f"6.5.{number}", (Frame(TEXT, valid),), (valid.decode(),))
        yield Case(f"6.5.{number} by octets", fragments(TEXT, valid, 1), (valid.decode(),))
    for number, invalid in enumerate(INVALID_UTF8, 1):
        yield Case(f"6.6.{number}", (Frame(TEXT, invalid),), close=1007)
        yield Case(f"6.6.{number} by octets", fragments(TEXT, invalid, 1), close=1007)


def closing() -> Iterator[Case]:
    hello = Frame(TEXT, b"Hello World!")
    yield Case("7.1.1", (hello, close_frame(1000)), ("Hello World!",), close=1000)
    yield Case("7.1.2", (close_frame(1000), close_frame(1001)), close=1000)
    yield Case("7.1.3", (close_frame(1000), Frame(PING)), close=1000)
    yield Case("7.1.4", (close_frame(1000), hello), close=1000)
    # RFC 6455, 5.4: control frames, so also a close, may come in the middle of a fragmented message.
    first, second = fragments(TEXT, b"fragment1fragment2", 9)
    yield Case("7.1.5", (first, close_frame(1000), second), close=1000)
    yield Case("7.1.5 and nothing more", (first, close_frame(1001)), close=1001)
    yield Case(
        "7.1.6",
        (Frame(TEXT, b"*" * 262_144), hello, close_frame(1000), Frame(PING)),
        ("*" * 262_144, "Hello World!"),
        close=1000,
    )
    yield Case("7.3.1", (Frame(CLOSE),), close=1005)
    yield Case("7.3.2", (Frame(CLOSE, b"a"),), close=1002)
    yield Case("7.3.3", (close_frame(1000),), close=1000)
    yield Case("7.3.4", (close_frame(1000, b"Hello World!"),), close=1000)
    yield Case("7.3.5", (close_frame(1000, b"*" * 123),), close=1000)
    yield Case("7.3.6", (close_frame(1000, b"*" * 124),), close=1002)
    yield Case("7.5.1", (close_frame(1000, INVALID_UTF8[0]),), close=1007)
    for number, code in enumerate(VALID_CODES, 1):
        yield Case(f"7.7.{number}", (close_frame(code),), close=code)
    for number, code in enumerate(INVALID_CODES, 1):
        yield Case(f"7.9.{number}", (close_frame(code),), close=1002)


def large() -> Iterator[Case]:
    for number, size in enumerate((65_536, 262_144, 1_048_576), 1):
        yield Case(f"9.1.{number}", (Frame(TEXT, b"*" * size),), ("*" * size,))
        yield Case(f"9.2.{number}", (Frame(BINARY, b"\xfe" * size),), (b"\xfe" * size,))
    for number, size in enumerate((1024, 16_384, 262_144), 1):
        yield Case(f"9.3.{number}", fragments(TEXT, b"*" * 1_048_576, size), ("*" * 1_048_576,))
        yield Case(f"9.4.{number}", fragments(BINARY, b"\xfe" * 1_048_576, size), (b"\xfe" * 1_048_576,))
    yield Case("9.5.1", (Frame(TEXT, b"*" * 1_048_576),), ("*" * 1_048_576,), chop=65_521)
    yield Case("9.7.1", tuple(Frame(TEXT, b"*" * 16) for _ in range(1000)), ("*" * 16,) * 1000)
    yield Case("9.8.1", tuple(Frame(BINARY, b"\xfe" * 256) for _ in range(1000)), (b"\xfe" * 256,) * 1000)


SECTIONS = {
    "1 framing": tuple(framing()),
    "2 pings and pongs": tuple(pings()),
    "3 reserved bits": tuple(reserved()),
    "4 opcodes": tuple(opcodes()),
    "5 fragmentation": tuple(fragmentation()),
    "6 UTF-8": tuple(utf8()),
    "7 closing": tuple(closing()),
    "9 large messages": tuple(large()),
}
