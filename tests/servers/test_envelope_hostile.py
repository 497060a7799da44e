"""Hostile clients beside good ones: each is handled by itself, and the good ones see no failure (seed 000)."""

import contextlib
import os
import random
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.envelope import EnvelopeCodec
from tests.processes import ServerProcess, wait_until
from tests.servers.clients import EnvelopeClient, RawClient, http_request, metric

Address = tuple[str, int]
GOOD_CLIENTS = 20
FRAMES = 50
MALFORMED = {
    "a length over the limit": (struct.pack(">I", 0xFFFF_FFFF) + b"x", "frame too large"),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "frame too large"),
    "an empty frame": (struct.pack(">I", 0), "envelope too short"),
    "a frame shorter than a header": (struct.pack(">I", 5) + b"\x01abcd", "envelope too short"),
    "a payload length that is too long": (struct.pack(">IBBQQI", 22, 1, 0, 1, 0, 5), "envelope length mismatch"),
    "a payload length that is too short": (
        struct.pack(">IBBQQI", 25, 1, 0, 1, 0, 1) + b"abc",
        "envelope length mismatch",
    ),
    "a payload length over the limit": (
        struct.pack(">IBBQQI", 22, 1, 0, 1, 0, 0xFFFF_FFFF),
        "envelope payload too large",
    ),
    "broken msgpack": (struct.pack(">I", 5) + b"\x95\x01\x00\xc1\xc1", "malformed msgpack envelope"),
    "msgpack of another shape": (struct.pack(">I", 6) + b"\x95\x01\x00\x01\x00\xa0", "malformed msgpack envelope"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_bytes_close_that_connection_with_one_log_line(what: str) -> None:
    data, reason = MALFORMED[what]
    with ServerProcess("envelope") as server, EnvelopeClient(server.address) as good:
        with EnvelopeClient(server.address) as bad:
            assert bad.echo(1, b"well-formed so far").request_id == 1
            bad.send(bad.codec.encode(2, b"this one too") + data)
            assert bad.next_envelope().request_id == 2
            assert bad.next_envelope() is None
        assert f'reason="{reason}"' in server.wait_for_log("WARNING connection_closed")
        assert good.echo(3, b"unmoved").payload == b"unmoved"


def slow_sender(address: Address) -> None:
    with EnvelopeClient(address) as client:
        for byte in client.codec.encode(1, b"in no hurry"):
            client.send(bytes([byte]))
        assert client.next_envelope().payload == b"in no hurry"


def random_bytes(address: Address) -> None:
    with RawClient(address) as client, contextlib.suppress(OSError):
        client.send(b"\xff" + os.urandom(999))
        assert client.closed_by_server()


def header_then_silence(address: Address) -> None:
    with EnvelopeClient(address) as client:
        client.send(client.codec.encode(1, b"never")[:11])
        assert client.closed_by_server()


def oversize_length(address: Address) -> None:
    with RawClient(address) as client:
        client.send(struct.pack(">I", 1 << 30))
        assert client.closed_by_server()


def half_a_frame_then_reset(address: Address) -> None:
    with EnvelopeClient(address) as client:
        client.send(client.codec.encode(1, b"x" * 5000)[:2500])
        client.reset()


def never_reading(address: Address) -> None:
    with EnvelopeClient(address, receive_buffer_bytes=4096) as client, contextlib.suppress(OSError):
        client.sock.settimeout(5)
        for _ in range(200):
            client.send(client.codec.encode(1, b"x" * 100_000))


def version_roulette(address: Address) -> None:
    with EnvelopeClient(address) as client:
        assert client.echo(9, b"x", version=random.choice([0, 2, 3, 200])).payload == b"unsupported protocol version"
        assert client.next_envelope() is None


def churn(address: Address) -> None:
    for _ in range(20):
        RawClient(address).close()


HOSTILE: list[Callable[[Address], None]] = [
    slow_sender,
    random_bytes,
    header_then_silence,
    oversize_length,
    half_a_frame_then_reset,
    never_reading,
    version_roulette,
    churn,
]


def good_client(address: Address, number: int) -> int:
    """Failures of one good client, as in the seed: M frames, everything checked."""
    failures = 0
    ids = random.Random(number)
    with EnvelopeClient(address) as client:
        for frame in range(FRAMES):
            request_id, payload = ids.getrandbits(64), f"client-{number}-frame-{frame}".encode()
            reply = client.echo(request_id, payload)
            failures += reply is None or reply[:3] != (1, 0, request_id) or reply.payload != payload
    return failures


def test_good_clients_see_no_failure_beside_hostile_ones() -> None:
    limits = ["--max-clients", "1000", "--idle-timeout", "1", "--write-timeout", "0.5"]
    with ServerProcess("envelope", *limits) as server:
        stop = threading.Event()

        def attack(hostile: Callable[[Address], None]) -> int:
            attacks = 0
            while not stop.is_set():
                hostile(server.address)
                attacks += 1
            return attacks

        with ThreadPoolExecutor(40) as pool:
            attackers = [pool.submit(attack, hostile) for hostile in HOSTILE]
            good = [pool.submit(good_client, server.address, number) for number in range(GOOD_CLIENTS)]
            failures = [client.result(60) for client in good]
            stop.set()
            attacks = [attacker.result(60) for attacker in attackers]  # their own assertions are in here
        assert failures == [0] * GOOD_CLIENTS
        assert min(attacks) >= 1
        assert good_client(server.address, 99) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), framed=st.booleans(), cut=st.integers(0, 400))
def test_garbage_never_ends_the_server(attacked: ServerProcess, data: bytes, framed: bool, cut: int) -> None:
    if framed:
        data = struct.pack(">I", len(data)) + data
    with RawClient(attacked.address) as client, contextlib.suppress(OSError):
        client.send(data[:cut])
        client.send(data[cut:])
        client.half_close()
        assert client.closed_by_server()
    assert attacked.running
    assert "internal_error" not in attacked.log()


def test_server_after_garbage_still_answers(attacked: ServerProcess) -> None:
    with EnvelopeClient(attacked.address) as client:
        assert client.echo(1, b"well").payload == b"well"


def test_flood_of_malformed_clients_is_counted_in_full_but_logged_within_a_budget() -> None:
    with ServerProcess("envelope", "--metrics-port", "0") as server:
        address = server.logged_address("metrics_listening")
        for _ in range(400):
            with RawClient(server.address) as client:
                client.send(b"\xff\xff\xff\xff")
                assert client.receive_until_closed() == b""
        sample = 'envelope_connections_closed_total{reason="frame too large"}'
        wait_until(lambda: metric(http_request(address, "GET", "/metrics")[1], sample) == 400, "400 counted")
        assert len(server.log()) < 200_000


def test_replies_that_nobody_reads_are_bounded_and_others_hear_busy() -> None:
    """Only so many bytes of replies may wait; a request beyond that is told `server busy`, not queued."""
    held_limit = 600_000
    limits = ["--max-held-bytes", str(held_limit), "--write-timeout", "60", "--metrics-port", "0"]
    with ServerProcess("envelope", *limits) as server:
        metrics = server.logged_address("metrics_listening")
        data = EnvelopeCodec().encode(1, b"x" * 1_048_000)
        with EnvelopeClient(server.address) as good:
            with contextlib.ExitStack() as stack:
                deaf: list[EnvelopeClient] = []

                def busy() -> bool:
                    deaf.append(stack.enter_context(EnvelopeClient(server.address, receive_buffer_bytes=4096)))
                    deaf[-1].sock.settimeout(0.3)
                    with contextlib.suppress(OSError):
                        for _ in range(20):
                            deaf[-1].send(data)
                    reply = good.echo(2, b"?")
                    return reply is not None and reply.payload == b"server busy"

                wait_until(busy, "`server busy` while nobody reads", deadline_s=60)
                held = metric(http_request(metrics, "GET", "/metrics")[1], "envelope_held_bytes")
                assert held_limit < held < held_limit + 2 * 2**20

            def room() -> bool:
                reply = good.echo(3, b"!")
                return reply is not None and reply.payload == b"!"

            wait_until(room, "room when the deaf have gone")


def test_flood_of_connections_is_turned_away_and_the_served_ones_notice_nothing() -> None:
    with ServerProcess("envelope", "--max-clients", "5", "--idle-timeout", "60") as server:
        with EnvelopeClient(server.address) as good:
            assert good.echo(1, b"x").payload == b"x"
            flood = [EnvelopeClient(server.address) for _ in range(300)]
            answers = 0
            for client in flood[4:]:  # the first four had room
                reply = client.next_envelope()
                answers += reply is not None and reply.payload == b"server at capacity"
                assert client.next_envelope() is None
            assert answers == 296
            assert good.echo(2, b"y").payload == b"y"
            for client in flood:
                client.close()
        wait_until(lambda: psutil.Process(server.pid).num_fds() < 30, "every connection gone")


def test_memory_does_not_grow_with_finished_connections() -> None:
    with ServerProcess("envelope") as server:

        def connections(number: int) -> int:
            for _ in range(number):
                with EnvelopeClient(server.address) as client:
                    client.echo(1, b"x" * 1000)
            return psutil.Process(server.pid).memory_info().rss

        before = connections(300)
        after = connections(1500)
        assert after - before < 2 * 2**20
        assert psutil.Process(server.pid).num_fds() < 30
