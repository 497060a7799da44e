"""What attackers send to WebSocket servers: frames and handshakes that are wrong, with what they must get."""

from tests.servers.websocket_clients import (
    BINARY,
    CLOSE,
    CONTINUATION,
    HANDSHAKE,
    PING,
    TEXT,
    frame,
    request,
)

#: By name: bytes after a good handshake, and the close code that they must get.
VIOLATIONS = {
    "an unmasked frame": (frame(TEXT, b"x", masked=False), 1002),
    "a reserved bit": (frame(TEXT, b"x", reserved=0b100), 1002),
    "a reserved opcode": (frame(0x3, b"x"), 1002),
    "a long control frame": (frame(PING, b"x" * 126), 1002),
    "a fragmented control frame": (frame(PING, b"x", fin=False), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a message inside a message": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "a close code of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a forbidden close code": (frame(CLOSE, b"\x03\xed"), 1002),
    "text that is not UTF-8": (frame(TEXT, b"\xc3\x28"), 1007),
    "fragmented text that is not UTF-8": (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\x28"), 1007),
    "a message over the limit": (frame(BINARY, b"x" * 1_048_577), 1009),
    "a length over the limit, announced": (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),
    "fragments over the limit": (
        frame(BINARY, b"x" * 600_000, fin=False) + frame(CONTINUATION, b"x" * 600_000),
        1009,
    ),
}

#: By name: bytes instead of a good handshake, and the HTTP status that they must get.
BAD_HANDSHAKES = {
    "not HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "a POST": (request(first_line="POST / HTTP/1.1"), 405),
    "no upgrade": (request({"Host": "x"}), 426),
    "no key": (request({k: v for k, v in HANDSHAKE.items() if k != "Sec-WebSocket-Key"}), 400),
    "a short key": (request({**HANDSHAKE, "Sec-WebSocket-Key": "c2hvcnQ="}), 400),
    "another version": (request({**HANDSHAKE, "Sec-WebSocket-Version": "8"}), 400),
    "a header line without a colon": (b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400),
    "a line that is too long": (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 414),
    "too many headers": (request({f"X-{n}": "y" for n in range(1000)}), 431),
}

#: JSON that is meant to exhaust its reader: nested, long numbers, numbers without a value, half characters.
JSON_BOMBS = {
    "arrays in arrays": "[" * 100_000,
    "closed arrays in arrays": "[" * 50_000 + "]" * 50_000,
    "objects in objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "a number of 100,000 digits": "9" * 100_000,
    "a member of 100,000 digits": '{"id":' + "9" * 100_000 + "}",
    "an exponent beyond all numbers": '{"id":1e999999999}',
    "not a number": '{"id":NaN}',
    "half a surrogate pair": '{"id":"\\ud800","method":"\\udfff"}',
    "a member a thousand times": "{" + ",".join('"id":1' for _ in range(1000)) + "}",
}
