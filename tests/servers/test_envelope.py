"""The envelope server on real sockets: each sentence of its wire format, and each limit."""

import socket
import struct
import threading

import pytest

from protocols.envelope import Codec, Envelope, EnvelopeCodec, MsgType
from servers.connection import RECEIVED
from servers.envelope import EnvelopeConnection, EnvelopeServer, parse_arguments
from tests.processes import ServerProcess, wait_until
from tests.servers.clients import EnvelopeClient, RawClient, http_request, metric

CODECS: list[Codec] = ["binary", "msgpack"]
U64 = 2**64 - 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("payload", [b"", b"x", b"\0" * 1000, b"y" * 300_000])
def test_echo_comes_back_as_it_went_in_its_codec(codec: Codec, payload: bytes) -> None:
    with ServerProcess("envelope") as server, EnvelopeClient(server.address, codec) as client:
        sent = client.codec.encode(U64, payload, timestamp_ms=1_700_000_000_000)
        client.send(sent)
        assert client.receive_exactly(len(sent)) == sent


def test_echo_of_the_largest_frame_and_not_a_byte_more() -> None:
    with ServerProcess("envelope") as server:
        with EnvelopeClient(server.address) as client:
            largest = b"z" * (1_048_576 - 22)
            assert client.echo(1, largest) == Envelope(1, MsgType.ECHO, 1, 0, largest)
        with RawClient(server.address) as client:
            client.send(struct.pack(">I", 1_048_577))
            assert client.receive_until_closed() == b""
        assert 'reason="frame too large"' in server.wait_for_log("WARNING connection_closed")


def test_max_frame_bytes_is_an_option() -> None:
    with ServerProcess("envelope", "--max-frame-bytes", "122") as server, EnvelopeClient(server.address) as client:
        assert client.echo(1, b"x" * 100).payload == b"x" * 100
        client.send_envelope(2, b"x" * 101)
        assert client.next_envelope() is None


@pytest.mark.parametrize("codec", CODECS)
def test_pipelined_requests_are_all_answered_in_order(codec: Codec) -> None:
    requests = [(n, f"client-1-frame-{n}".encode() * (1 + n % 50)) for n in range(2000)]
    with ServerProcess("envelope") as server, EnvelopeClient(server.address, codec) as client:
        data = b"".join(client.codec.encode(*request) for request in requests)
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        replies = [client.next_envelope() for _ in requests]
        sender.join()
        assert [(reply.request_id, reply.payload) for reply in replies] == requests


def test_codecs_and_types_may_be_mixed_on_one_connection() -> None:
    binary, msgpack = EnvelopeCodec("binary"), EnvelopeCodec("msgpack")
    with ServerProcess("envelope") as server, EnvelopeClient(server.address) as client:
        echoes = [binary.encode(1, b"a"), msgpack.encode(2, b"b"), binary.encode(3, b"c")]
        noted = binary.encode(9, b"noted", MsgType.LOG)
        client.send(echoes[0] + noted + echoes[1] + noted + echoes[2])
        expected = b"".join(echoes)
        assert client.receive_exactly(len(expected)) == expected


@pytest.mark.parametrize("codec", CODECS)
def test_request_sent_byte_by_byte_is_answered(codec: Codec) -> None:
    with ServerProcess("envelope") as server, EnvelopeClient(server.address, codec) as client:
        for byte in client.codec.encode(5, b"slowly") + client.codec.encode(6, b"and again"):
            client.send(bytes([byte]))
        assert client.next_envelope().payload == b"slowly"
        assert client.next_envelope().payload == b"and again"


def test_request_cut_at_every_byte_is_answered() -> None:
    codec = EnvelopeCodec()
    stream = codec.encode(1, b"one") + codec.encode(2, b"") + EnvelopeCodec("msgpack").encode(3, b"three")
    with ServerProcess("envelope") as server, EnvelopeClient(server.address) as client:
        for cut in range(1, len(stream)):
            client.send(stream[:cut])
            client.send(stream[cut:])
            assert client.receive_exactly(len(stream)) == stream


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_version_gets_an_error_with_its_id_and_the_connection_closes(codec: Codec, version: int) -> None:
    with ServerProcess("envelope") as server, EnvelopeClient(server.address, codec) as client:
        assert client.echo(1, b"fine").payload == b"fine"
        # What is pipelined behind it must not turn the close into a reset that destroys the reply.
        behind = client.codec.encode(78, b"behind" * 5000) * 10
        client.send(client.codec.encode(77, b"from the future", version=version) + behind)
        reply = client.next_envelope()
        assert reply == Envelope(1, MsgType.ERROR, 77, 0, b"unsupported protocol version")
        assert client.next_envelope() is None
        server.wait_for_log('reason="unsupported protocol version"')


def test_unknown_type_gets_an_error_and_the_connection_stays() -> None:
    with ServerProcess("envelope") as server, EnvelopeClient(server.address) as client:
        client.send_envelope(4, b"?", msg_type=MsgType.KV)
        assert client.next_envelope() == Envelope(1, MsgType.ERROR, 4, 0, b"unsupported message type")
        assert client.echo(5, b"still here").payload == b"still here"


def test_log_message_becomes_one_log_line_and_no_reply() -> None:
    with ServerProcess("envelope") as server, EnvelopeClient(server.address) as client:
        client.send_envelope(3, b"disk is\nfull", msg_type=MsgType.LOG)
        assert client.echo(4, b"x").request_id == 4  # the next reply is not the LOG's
        assert 'request_id=3 text="disk is\\nfull"' in server.wait_for_log("client_log")


def test_error_message_is_not_answered() -> None:
    with ServerProcess("envelope") as server, EnvelopeClient(server.address) as client:
        client.send_envelope(3, b"server busy", msg_type=MsgType.ERROR)
        assert client.echo(4, b"x").request_id == 4


def test_client_beyond_capacity_is_told_so_and_others_are_served() -> None:
    with ServerProcess("envelope", "--max-clients", "2") as server:
        with EnvelopeClient(server.address) as first, EnvelopeClient(server.address) as second:
            assert first.echo(1, b"a").payload == b"a"
            assert second.echo(2, b"b").payload == b"b"
            for _ in range(3):
                with EnvelopeClient(server.address) as third:
                    third.send_envelope(3, b"may I?")  # unread when the server closes: no reset may follow
                    assert third.next_envelope() == Envelope(1, MsgType.ERROR, 0, 0, b"server at capacity")
                    assert third.next_envelope() is None
            assert first.echo(4, b"c").payload == b"c"

        def room() -> bool:
            with EnvelopeClient(server.address) as client:
                reply = client.echo(5, b"d")
                return reply is not None and reply.payload == b"d"

        wait_until(room, "room after two clients have left")


def test_more_requests_than_may_be_under_way_are_told_that_the_server_is_busy() -> None:
    limits = ["--service-ms", "200", "--max-in-flight", "2"]
    with ServerProcess("envelope", *limits) as server, EnvelopeClient(server.address) as client:
        client.send(b"".join(client.codec.encode(n, b"x") for n in (1, 2, 3)))
        refused, *served = [client.next_envelope() for _ in range(3)]
        assert refused == Envelope(1, MsgType.ERROR, 3, 0, b"server busy")
        assert [reply.request_id for reply in served] == [1, 2]
        # The connection stays, and there is room again.
        assert client.echo(4, b"y").payload == b"y"
        with EnvelopeClient(server.address) as other:
            assert other.echo(5, b"z").payload == b"z"


def test_busy_is_said_in_the_codec_of_the_request() -> None:
    limits = ["--service-ms", "1", "--max-in-flight", "0"]
    with ServerProcess("envelope", *limits) as server, EnvelopeClient(server.address, "msgpack") as client:
        client.send_envelope(1, b"x")
        assert client.receive()[4] == 0x95


def test_connection_is_closed_that_completes_no_message_for_the_idle_timeout() -> None:
    with ServerProcess("envelope", "--idle-timeout", "0.3") as server:
        with RawClient(server.address) as silent, EnvelopeClient(server.address) as half:
            half.send(half.codec.encode(1, b"never finished")[:11])
            assert silent.receive_until_closed() == b""
            assert half.receive_until_closed() == b""
        wait_until(lambda: server.log().count('reason="idle timeout"') == 2, "two idle timeouts in the log")


def test_dripping_bytes_does_not_keep_a_place() -> None:
    with ServerProcess("envelope", "--idle-timeout", "0.4") as server, EnvelopeClient(server.address) as client:
        client.send(struct.pack(">I", 1_000_000))

        def closed() -> bool:
            try:
                client.send(b"x")
                client.sock.settimeout(0.05)
                return client.receive() == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(closed, "the server closing on one who drips")


def test_busy_connection_outlives_the_idle_timeout() -> None:
    with ServerProcess("envelope", "--idle-timeout", "0.5") as server:
        busy = EnvelopeClient(server.address)
        with busy, RawClient(server.address) as silent:
            silent.sock.setblocking(False)

            def silent_closed() -> bool:
                assert busy.echo(1, b"alive").payload == b"alive"
                try:
                    return silent.receive() == b""
                except BlockingIOError:
                    return False

            wait_until(silent_closed, "the idle one being closed")
            assert busy.echo(2, b"alive").payload == b"alive"


def test_client_that_never_reads_is_closed_by_the_write_timeout_and_others_are_served() -> None:
    with ServerProcess("envelope", "--write-timeout", "0.3") as server:
        with EnvelopeClient(server.address, receive_buffer_bytes=4096) as deaf, EnvelopeClient(server.address) as good:
            data = deaf.codec.encode(1, b"x" * 100_000)
            deaf.sock.settimeout(0.2)

            def shut_out() -> bool:
                assert good.echo(2, b"fine").payload == b"fine"
                try:
                    deaf.send(data)
                except TimeoutError:
                    return False
                except OSError:
                    return True
                return False

            wait_until(shut_out, "the server giving up on one who never reads")
        server.wait_for_log('reason="write timeout"')


def test_slow_reader_gets_every_reply() -> None:
    """Back-pressure: the server stops reading while its replies wait, and loses none of them."""
    requests = 400
    with ServerProcess("envelope") as server, EnvelopeClient(server.address, receive_buffer_bytes=4096) as client:
        data = b"".join(client.codec.encode(n, bytes([n % 256]) * 50_000) for n in range(requests))
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        received = client.receive_exactly(len(data))
        sender.join()
        assert received == data


def test_half_closed_client_gets_the_replies_under_way() -> None:
    with ServerProcess("envelope", "--service-ms", "100") as server, EnvelopeClient(server.address) as client:
        client.send_envelope(1, b"last words")
        client.half_close()
        assert client.next_envelope().payload == b"last words"
        assert client.next_envelope() is None


def test_metrics_equal_what_the_clients_did() -> None:
    with ServerProcess("envelope", "--metrics-port", "0", "--max-clients", "1") as server:
        address = server.logged_address("metrics_listening")
        with EnvelopeClient(server.address) as client:
            for number in range(10):
                client.echo(number, b"x" * 10)
            client.send_envelope(1, b"a note", msg_type=MsgType.LOG)
            client.send_envelope(1, b"?", msg_type=77)
            client.next_envelope()
            with EnvelopeClient(server.address) as refused:
                assert refused.next_envelope().payload == b"server at capacity"
            status, text = http_request(address, "GET", "/metrics")
            assert status == 200
            assert metric(text, "envelope_requests_total") == 12
            assert metric(text, "envelope_echoes_total") == 10
            assert metric(text, "envelope_log_messages_total") == 1
            assert metric(text, "envelope_unsupported_total") == 1
            assert metric(text, "envelope_connections_total") == 1
            assert metric(text, "envelope_connections_refused_total") == 1
            assert metric(text, "envelope_connections_active") == 1
            assert metric(text, "envelope_received_bytes_total") == 10 * (26 + 10) + (26 + 6) + (26 + 1)
        sample = 'envelope_connections_closed_total{reason="client closed"}'
        wait_until(lambda: metric(http_request(address, "GET", "/metrics")[1], sample) == 1, "the close in the metrics")
        assert http_request(address, "GET", "/elsewhere")[0] == 404
        assert http_request(address, "POST", "/metrics")[0] == 405


def test_the_replies_to_what_one_recv_brought_leave_in_one_send() -> None:
    binary, msgpack = EnvelopeCodec(), EnvelopeCodec("msgpack")
    echoes = [binary.encode(1, b"a"), msgpack.encode(2, b"b"), msgpack.encode(3, b"c"), binary.encode(5, b"d")]
    note, unknown = binary.encode(4, b"?", msg_type=MsgType.KV), binary.encode(6, b"?", version=9)
    stream = b"".join([*echoes[:3], note, echoes[3], unknown, binary.encode(7, b"behind")])
    server = EnvelopeServer(parse_arguments([]))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    sends: list[bytes] = []

    def send(data: bytes) -> int:
        sends.append(bytes(data))
        return len(data)

    with ours, theirs:
        connection = EnvelopeConnection(server, server.group, ours, ("127.0.0.1", 1))
        try:
            connection._send = send
            RECEIVED[: len(stream)] = stream
            connection.received(len(stream))
        finally:
            connection.abort("the test is over")
    assert len(sends) == 1
    replies = EnvelopeCodec().receive_data(sends[0])
    assert [(reply.request_id, reply.payload) for reply in replies] == [
        (1, b"a"),
        (2, b"b"),
        (3, b"c"),
        (4, b"unsupported message type"),
        (5, b"d"),
        (6, b"unsupported protocol version"),
    ]
