"""The pages under docs/protocols/ cannot rot: their bytes, limits and reasons are those of the code."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from protocols import envelope, f00d, frames, rpc, websocket_events
from protocols.envelope import Envelope, EnvelopeCodec, MsgType, encode_envelope
from protocols.f00d import Packet, encode_ack, encode_packet
from protocols.frames import encode_frame
from protocols.rpc import Dispatcher, InvalidParams, encode_notification, encode_request
from protocols.websocket import Ping, Text
from tests.protocols.websockets_talking import new_client, opened_client, opened_server, talking

PAGES = Path(__file__).parents[2] / "docs" / "protocols"
NAMES = ["frames.md", "envelope.md", "f00d.md", "websocket-rpc.md", "websocket.md"]
HELLO = Envelope(1, MsgType.ECHO, 0x0102030405060708, 0x1112131415161718, b"hi")


def blocks(kind: str) -> dict[str, str]:
    """All fenced blocks of this kind, by the name behind it."""
    found: dict[str, str] = {}
    for page in NAMES:
        text = (PAGES / page).read_text(encoding="utf-8")
        for name, body in re.findall(rf"^```{kind} (.+)\n([^`]*)^```$", text, re.MULTILINE):
            assert name not in found, f"two blocks are called {name!r}"
            found[name] = body.strip()
    return found


def written(send: Callable[[], None], connection: object) -> bytes:
    send()
    return b"".join(connection.data_to_send())  # type: ignore[attr-defined]


def hex_examples() -> dict[str, bytes]:
    client, server = opened_client(), opened_server()
    refusal = Envelope(1, MsgType.ERROR, HELLO.request_id, 0, envelope.UNSUPPORTED_VERSION)
    largest = encode_frame(bytes(frames.MAX_FRAME_BYTES))[:4]
    heads = {}
    for size in (256, 65_536):
        data = written(lambda size=size: server.send_binary(bytes(size)), server)  # type: ignore[misc]
        heads[f"websocket head {size}"] = data[:-size]
    fragments = bytes.fromhex("010348656c80026c6f")
    assert opened_client().receive_data(fragments) == [Text("Hello")]
    pinged = opened_client()
    assert pinged.receive_data(bytes.fromhex("890548656c6c6f")) == [Ping(b"Hello")]
    # The pong is the library's, with a mask of its own choosing: unmask it, mask it with the RFC's.
    pong = b"".join(pinged.data_to_send())
    body = bytes(byte ^ pong[2 + i % 4] for i, byte in enumerate(pong[6:]))
    key = bytes.fromhex("37fa213d")
    return {
        "frame hi": encode_frame(b"hi"),
        "frame empty": encode_frame(b""),
        "frame largest head": largest,
        "frame oversize head": (int.from_bytes(largest, "big") + 1).to_bytes(4, "big"),
        "envelope binary": encode_envelope(HELLO),
        "envelope binary framed": encode_frame(encode_envelope(HELLO)),
        "envelope msgpack": encode_envelope(HELLO, "msgpack"),
        "envelope msgpack framed": EnvelopeCodec("msgpack").encode(
            HELLO.request_id, HELLO.payload, timestamp_ms=HELLO.timestamp_ms
        ),
        "envelope wrong version answer": encode_envelope(refusal),
        "f00d packet": encode_packet(Packet("toggle", "DEVICE123", "00000000deadbeef", True)),
        "f00d raw ack": f00d.RAW_ACK,
        "f00d framed ack": encode_ack("00000000deadbeef"),
        "websocket server text": written(lambda: server.send_text("Hello"), server),
        "websocket client text": written(lambda: client.send_text("Hello"), client),
        "websocket fragments": fragments,
        "websocket ping": written(lambda: server.send_ping(b"Hello"), server),
        "websocket pong": pong[:2] + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(body)),
        **heads,
        "websocket close": written(server.send_close, server),
    }


def add(params: object) -> object:
    if not isinstance(params, dict) or type(params.get("a")) is not int:
        raise InvalidParams
    return {"result": params["a"] + params["b"]}


def json_examples() -> dict[str, str | None]:
    dispatcher = Dispatcher()
    dispatcher.register("add", add)
    call = encode_request(1, "add", {"a": 2, "b": 3})
    strict = encode_request(1, "add", {"a": 2, "b": 3}, "jsonrpc")
    return {
        "call request": call,
        "call reply": dispatcher.handle(call),
        "call error": dispatcher.handle(encode_request(1, "add", {"a": "x"})),
        "jsonrpc request": strict,
        "jsonrpc reply": dispatcher.handle(strict),
        "jsonrpc error": dispatcher.handle(encode_request(1, "add", {"a": "x"}, "jsonrpc")),
        "jsonrpc notification": encode_notification("log", ["x"]),
        "parse error of an open brace": dispatcher.handle("{"),
    }


def test_the_bytes_on_the_pages_are_what_the_codecs_produce():
    pages = {name: bytes.fromhex(text) for name, text in blocks("hex").items()}
    assert pages == hex_examples()


def test_the_texts_on_the_pages_are_what_the_codecs_produce():
    assert blocks("json") == json_examples()


def test_the_bytes_on_the_pages_are_read_by_the_other_side():
    pages = {name: bytes.fromhex(text) for name, text in blocks("hex").items()}
    stream = pages["envelope binary framed"] + pages["envelope msgpack framed"]
    assert EnvelopeCodec().receive_data(stream) == [HELLO, HELLO]
    assert f00d.PacketDecoder().receive_data(pages["f00d packet"])[0].device_id == "DEVICE123"
    assert f00d.FramedAckDecoder().receive_data(pages["f00d framed ack"]) == ["00000000deadbeef"]
    assert opened_server().receive_data(pages["websocket client text"]) == [Text("Hello")]
    client, _ = talking(new_client())
    assert client.receive_data(pages["websocket server text"]) == [Text("Hello")]


@pytest.mark.parametrize("page", NAMES)
def test_the_limits_on_a_page_are_those_of_the_code(page: str):
    rows = re.findall(r"^\| `(protocols[\w.]*)\.([A-Z_]+)` \| ([\d,]+) \|", (PAGES / page).read_text(), re.MULTILINE)
    assert rows, "every page names its limits"
    for module, name, value in rows:
        assert getattr(importlib.import_module(module), name) == int(value.replace(",", "")), f"{module}.{name}"


@pytest.mark.parametrize(
    ("page", "reasons"),
    [
        ("frames.md", [frames.FRAME_TOO_LARGE, frames.TRUNCATED]),
        (
            "envelope.md",
            [
                *(envelope.ENVELOPE_TOO_SHORT, envelope.PAYLOAD_TOO_LARGE, envelope.LENGTH_MISMATCH),
                *(envelope.BAD_MSGPACK, frames.FRAME_TOO_LARGE, frames.TRUNCATED),
                *(text.decode() for text in (envelope.SERVER_AT_CAPACITY, envelope.SERVER_BUSY)),
                envelope.UNSUPPORTED_VERSION.decode(),
            ],
        ),
        ("f00d.md", [*f00d.DecodeReason, f00d.BAD_ACK, frames.TRUNCATED]),
        (
            "websocket-rpc.md",
            [
                *(rpc.NOT_JSON, rpc.NOT_AN_OBJECT, rpc.EMPTY_BATCH, rpc.WRONG_DIALECT, rpc.MISSING_MEMBER),
                *(rpc.BAD_ID, rpc.BOTH, rpc.NEITHER, rpc.BAD_ERROR),
            ],
        ),
        (
            "websocket.md",
            [
                *(websocket_events.BAD_HANDSHAKE, websocket_events.HANDSHAKE_REFUSED, websocket_events.VIOLATION),
                *(websocket_events.INVALID_UTF8, websocket_events.MESSAGE_TOO_BIG, websocket_events.INTERNAL),
            ],
        ),
    ],
)
def test_a_page_names_every_reason(page: str, reasons: list[str]):
    text = (PAGES / page).read_text(encoding="utf-8")
    assert [reason for reason in reasons if f"`{reason}`" not in text] == []
