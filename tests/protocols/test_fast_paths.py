"""The engine's fast paths give the same bytes and the same messages as the plain codecs, on any input."""

import json
import struct

import orjson
from hypothesis import given
from hypothesis import strategies as st

from protocols.envelope import EchoWriter, Envelope, EnvelopeCodec, MsgType
from protocols.f00d import (
    ACK_HEAD,
    ACK_TAIL,
    PACKET_TAILS,
    FramedAckDecoder,
    Packet,
    encode_ack,
    encode_packet,
    packet_heads,
)
from protocols.rpc import RequestWriter, decode_reply, encode_request
from protocols.rpc_forms import learn_form
from protocols.websocket import (
    FIN_BINARY,
    FIN_TEXT,
    Binary,
    ClientFrames,
    Text,
    plain_message_at,
    plain_messages,
    unmasked_frame,
)
from tests.protocols.websockets_talking import opened_client, talking

ids = st.integers(0, 2**64 - 1)
device_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(st.data(), st.integers(0, 300), st.integers(0, 2**64 - 1), st.lists(ids, min_size=1, max_size=20))
def test_many_echoes_at_once_are_the_bytes_of_each(data, size, timestamp_ms, request_ids):
    payloads = [data.draw(st.binary(min_size=size, max_size=size)) for _ in request_ids]
    writer = EchoWriter(size)
    plain = EnvelopeCodec()
    one_by_one = [
        plain.encode(request_id, payload, MsgType.ECHO, timestamp_ms)
        for request_id, payload in zip(request_ids, payloads, strict=True)
    ]
    assert writer.encode_many(request_ids, timestamp_ms, payloads) == b"".join(one_by_one)
    assert writer.encode(request_ids[0], timestamp_ms, payloads[0]) == one_by_one[0]
    assert {len(echo) for echo in one_by_one} == {writer.unit_bytes}


@given(ids, st.integers(0, 2**64 - 1), st.binary(max_size=100), st.integers(0, 10_000), st.integers(1, 255))
def test_a_reply_with_other_bytes_than_its_request_is_another_envelope(request_id, timestamp_ms, payload, place, flip):
    # What the engine rests on: equal bytes are equal envelopes, and every other byte makes it another or none.
    sent = bytearray(EchoWriter(len(payload)).encode(request_id, timestamp_ms, payload))
    expected = Envelope(1, MsgType.ECHO, request_id, timestamp_ms, payload)
    assert EnvelopeCodec().receive_data(bytes(sent)) == [expected]
    sent[place % len(sent)] ^= flip
    assert EnvelopeCodec().receive_data(bytes(sent)) != [expected]


@given(device_ids, ids, st.booleans(), st.sampled_from(["toggle", "status"]))
def test_packets_around_an_id_are_the_plain_packets(device_id, number, state, opcode):
    digits = f"{number:016x}"
    plain = encode_packet(Packet(opcode, device_id, digits, state))
    assert packet_heads(device_id, opcode)[state] + digits.encode() + PACKET_TAILS[state] == plain


@given(ids)
def test_an_acknowledgement_is_foretold_as_it_is_encoded(number):
    digits = f"{number:016x}"
    foretold = ACK_HEAD + digits.encode() + ACK_TAIL
    assert foretold == encode_ack(digits)
    assert FramedAckDecoder().receive_data(foretold) == [digits]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc{}\"'\\", max_size=4), inner, max_size=3),
    max_leaves=6,
)
texts_without_escapes = st.text("abcdefxyz0123456789%", max_size=40)
params = st.dictionaries(st.text("abc{}\"'\\", max_size=4), json_values, max_size=4)


@given(
    ids,
    st.sampled_from(["echo", "add", "get_time", 'odd "0" {} \\ name']),
    params,
    st.sampled_from(["call", "jsonrpc"]),
)
def test_rpc_requests_around_an_id_are_the_plain_requests(number, method, value, dialect):
    digits = f"{number:016x}"
    written = RequestWriter(method, dialect).encode(digits.encode(), orjson.dumps(value))
    assert written == encode_request(digits, method, value, dialect).encode()


@given(ids, texts_without_escapes, st.integers(0, 10**9), st.sampled_from(["call", "jsonrpc"]))
def test_rpc_requests_written_by_a_form_are_the_plain_requests(number, text, value, dialect):
    digits = f"{number:016x}"
    form = RequestWriter("100% echo", dialect).form(b'{"message":"%b","number":%d}')
    plain = encode_request(digits, "100% echo", {"message": text, "number": value}, dialect)
    assert form % (digits.encode(), text.encode(), value) == plain.encode()


@given(st.data(), st.integers(0, 200), st.integers(1, 20), st.sampled_from([FIN_TEXT, FIN_BINARY]))
def test_many_frames_at_once_are_the_frames_of_each(data, size, count, first):
    payloads = [data.draw(st.binary(min_size=size, max_size=size)) for _ in range(count)]
    masks = bytes(range(4 * count))
    stream = iter(masks)

    def random_bytes(size_bytes):
        return bytes(next(stream) for _ in range(min(size_bytes, 4)))

    one_by_one = b"".join(
        ClientFrames(lambda _, mask=masks[4 * number :][:4]: mask).frame(first, payload)
        for number, payload in enumerate(payloads)
    )
    at_once = ClientFrames(lambda size_bytes: masks[:size_bytes] if size < 126 else random_bytes(size_bytes))
    assert at_once.frames(first, payloads) == one_by_one


ECHO_FORMS = (b'{"message":"%b","number":%d}', b'{"message": "%b", "number": %d}')
digits_of_ids = ids.map(lambda number: f"{number:016x}")
texts = st.text("abcdefxyz0123456789", min_size=1, max_size=40)


def written(values, dialect, order, separators) -> bytes:
    """A reply as some server would write it."""
    digits, text, number = values
    rest = {"error": None} if dialect == "call" else {"jsonrpc": "2.0"}
    members = {"id": digits, "result": {"message": text, "number": number}, **rest}
    return json.dumps({name: members[name] for name in order if name in members}, separators=separators).encode()


@given(
    st.data(),
    st.sampled_from(["call", "jsonrpc"]),
    st.permutations(["id", "result", "error", "jsonrpc"]),
    st.sampled_from([(",", ":"), (", ", ": ")]),
)
def test_a_learned_form_foretells_the_next_reply_of_that_server(data, dialect, order, separators):
    first, second = ((data.draw(digits_of_ids), data.draw(texts), data.draw(st.integers(0, 10**9))) for _ in range(2))
    example = written(first, dialect, order, separators)
    form = learn_form(example, first[0].encode(), ECHO_FORMS, (first[1].encode(), first[2]), dialect)
    if form is None:  # the id's or the result's text stands in it twice: nothing is learned, nothing lost
        assert example.count(first[0].encode()) > 1
        return
    foretold = form.fill(second[0].encode(), (second[1].encode(), second[2]))
    assert foretold == written(second, dialect, order, separators)
    reply = decode_reply(foretold, dialect)
    assert (reply.id, reply.result, reply.error) == (second[0], {"message": second[1], "number": second[2]}, None)


@given(digits_of_ids, texts, st.integers(0, 10**9), st.integers(0, 1000), st.integers(1, 255))
def test_no_form_is_learned_from_a_reply_that_is_not_the_right_one(digits, text, number, place, flip):
    example = bytearray(written((digits, text, number), "call", ["id", "result", "error"], (",", ":")))
    example[place % len(example)] ^= flip
    form = learn_form(bytes(example), digits.encode(), ECHO_FORMS, (text.encode(), number))
    if form is not None:  # a changed byte that changes nothing: a space in another's place
        reply = decode_reply(bytes(example), "call")
        assert (reply.id, reply.result, reply.error) == (digits, {"message": text, "number": number}, None)


def test_a_reply_with_a_percent_sign_or_an_error_or_another_id_is_seen_through():
    values = (b"a", 1)
    odd = b'{"id":"00ff","result":{"message":"a","number":1},"error":null,"100%d":0}'
    assert (
        learn_form(odd, b"00ff", ECHO_FORMS, values) is None
        or b"100%%d" in learn_form(odd, b"00ff", ECHO_FORMS, values).text
    )
    plain = b'{"id":"00ff","result":{"message":"a","number":1},"error":null}'
    assert learn_form(plain, b"00ff", ECHO_FORMS, values) is not None
    assert learn_form(plain, b"00fe", ECHO_FORMS, values) is None
    assert learn_form(plain.replace(b"null", b'{"code":1,"message":"x"}'), b"00ff", ECHO_FORMS, values) is None
    assert learn_form(plain[:-1], b"00ff", ECHO_FORMS, values) is None


payloads = st.binary(max_size=200) | st.integers(120, 140).map(bytes) | st.integers(65_530, 65_540).map(bytes)


@given(st.lists(payloads, max_size=6), st.sampled_from([FIN_TEXT, FIN_BINARY]))
def test_whole_plain_frames_are_read_as_the_parser_reads_them(messages, first):
    data = b"".join(unmasked_frame(first, message) for message in messages)
    client = opened_client()
    assert client.between_messages
    assert plain_messages(data, first, client.max_size) == messages
    one_by_one, start = [], 0
    while (found := plain_message_at(data, start, first, client.max_size)) is not None:
        one_by_one.append(found[0])
        start = found[1]
    assert one_by_one == messages
    if first == FIN_BINARY:
        assert client.receive_data(data) == [Binary(message) for message in messages]


@given(st.binary(max_size=300))
def test_what_plain_frames_cannot_be_read_from_is_left_to_the_parser(data):
    client = opened_client()
    messages = plain_messages(data, FIN_BINARY, client.max_size)
    events = client.receive_data(data)
    if messages is not None:
        assert events == [Binary(message) for message in messages]
        assert client.between_messages


def test_a_masked_fragmented_or_unfinished_frame_is_no_plain_message():
    whole = unmasked_frame(FIN_TEXT, b"hello")
    assert plain_messages(whole, FIN_TEXT, 100) == [b"hello"]
    assert plain_messages(whole[:-1], FIN_TEXT, 100) is None
    assert plain_messages(whole + b"\x81", FIN_TEXT, 100) is None
    assert plain_messages(b"\x01" + whole[1:], FIN_TEXT, 100) is None
    assert plain_messages(bytes([0x81, 0x85]) + b"mask" + b"hello", FIN_TEXT, 100) is None
    assert plain_messages(struct.pack(">BBQ", 0x81, 127, 1 << 40), FIN_TEXT, 100) is None
    assert plain_messages(whole, FIN_TEXT, 4) is None, "longer than allowed"


def test_between_messages_is_false_inside_a_frame_or_a_fragmented_message():
    client = opened_client()
    whole = unmasked_frame(FIN_TEXT, b"hello")
    client.receive_data(whole[:3])
    assert not client.between_messages
    client.receive_data(whole[3:])
    assert client.between_messages
    client.receive_data(b"\x01\x00")  # the first, empty fragment of a message
    assert not client.between_messages
    assert client.receive_data(b"\x80\x02hi") == [Text("hi")]
    assert client.between_messages


@given(payloads)
def test_a_frame_written_alone_is_the_one_that_a_server_reads(message):
    client, server = talking()
    assert server.receive_data(client.frame(FIN_BINARY, message)) == [Binary(message)]
    # The RFC's mask, always the same here: what is queued must be the same bytes.
    client.send_binary(message)
    assert client.data_to_send() == [client.frame(FIN_BINARY, message)]
