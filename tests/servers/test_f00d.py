"""The F00D device server: its modes, its script, what it keeps and counts (seed 003)."""

import socket
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from protocols.f00d import HEADER_BYTES, FramedAckDecoder, Packet, encode_packet, new_msg_id
from tests.processes import ServerProcess, wait_until
from tests.servers.clients import RawClient, http_json, http_request, metric

Address = tuple[str, int]
_ids = Random(3)


def packet(device_id: str = "DEVICE123", state: bool = True) -> Packet:
    return Packet("toggle", device_id, new_msg_id(_ids), state)


def toggle(address: Address, sent: Packet | None = None, timeout_s: float = 15.0) -> bytes | None:
    """One attempt as in the seed: connect, send, read. b"" when the device closed, None when it said nothing."""
    with RawClient(address) as client:
        client.sock.settimeout(timeout_s)
        try:
            client.send(encode_packet(sent or packet()))
            return client.receive()
        except TimeoutError:
            return None
        except OSError:
            return b""


@pytest.fixture
def device() -> Iterator[ServerProcess]:
    with ServerProcess("f00d", "--admin-port", "0", "--metrics-port", "0") as server:
        yield server


def switch(device: ServerProcess, script: str, **fields: object) -> None:
    http_json(device.logged_address("admin_listening"), "POST", "/mode", {"script": script, **fields})


def metrics(device: ServerProcess) -> str:
    return http_request(device.logged_address("metrics_listening"), "GET", "/metrics")[1]


def test_success_acknowledges_with_the_raw_bytes_of_the_seed(device: ServerProcess) -> None:
    assert toggle(device.address) == b"ACK"


def test_framed_acknowledgement_names_its_packet() -> None:
    with ServerProcess("f00d", "--ack", "framed") as device, RawClient(device.address) as client:
        packets = [packet(f"D{n}") for n in range(500)]
        client.send(b"".join(map(encode_packet, packets)))
        decoder = FramedAckDecoder()
        acknowledged: list[str] = []
        while len(acknowledged) < len(packets):
            acknowledged += decoder.receive_data(client.receive())
            assert decoder.error is None
        assert acknowledged == [sent.msg_id for sent in packets]


def test_raw_acknowledgements_of_pipelined_packets_are_as_many(device: ServerProcess) -> None:
    with RawClient(device.address) as client:
        client.send(b"".join(encode_packet(packet()) for _ in range(100)))
        assert client.receive_exactly(300) == b"ACK" * 100


def test_packet_sent_byte_by_byte_is_acknowledged(device: ServerProcess) -> None:
    with RawClient(device.address) as client:
        for byte in encode_packet(packet()):
            client.send(bytes([byte]))
        assert client.receive_exactly(3) == b"ACK"


def test_delay_acknowledges_later() -> None:
    with ServerProcess("f00d", "--mode", "DELAY", "--delay-ms", "300") as device:
        start_s = time.monotonic()
        assert toggle(device.address) == b"ACK"
        assert time.monotonic() - start_s >= 0.29


def test_delay_of_one_client_does_not_hold_up_another() -> None:
    with ServerProcess("f00d", "--script", "DELAY:2,SUCCESS", "--admin-port", "0") as device:
        slow = RawClient(device.address)
        with slow:
            slow.send(encode_packet(packet()))
            admin = device.logged_address("admin_listening")
            wait_until(lambda: http_json(admin, "GET", "/counts")["received"] == 1, "the slow packet")
            start_s = time.monotonic()
            assert toggle(device.address) == b"ACK"
            assert time.monotonic() - start_s < 2


def test_disconnect_accepts_and_closes() -> None:
    with ServerProcess("f00d", "--mode", "DISCONNECT") as device:
        for _ in range(3):
            with RawClient(device.address) as client:  # the connection itself succeeds
                assert client.closed_by_server()


def test_timeout_never_answers_and_keeps_the_connection() -> None:
    with ServerProcess("f00d", "--mode", "TIMEOUT", "--admin-port", "0") as device:
        assert toggle(device.address, timeout_s=0.3) is None
        packets = http_json(device.logged_address("admin_listening"), "GET", "/packets")["packets"]
        assert [(kept["opcode"], kept["mode"]) for kept in packets] == [("toggle", "TIMEOUT")]


def test_reject_refuses_connections_and_ends_those_that_there_are(device: ServerProcess) -> None:
    with RawClient(device.address) as client:
        client.send(encode_packet(packet()))
        assert client.receive() == b"ACK"
        switch(device, "REJECT")
        assert client.closed_by_server()
    with pytest.raises(ConnectionRefusedError):
        RawClient(device.address)
    switch(device, "SUCCESS")
    assert toggle(device.address) == b"ACK"


def test_reject_keeps_the_port_from_other_programs(device: ServerProcess) -> None:
    switch(device, "REJECT")
    with pytest.raises(OSError, match="in use"):
        socket.create_server(device.address)


def test_device_may_begin_with_reject_and_says_its_address() -> None:
    with ServerProcess("f00d", "--mode", "REJECT", "--admin-port", "0") as device:
        with pytest.raises(ConnectionRefusedError):
            RawClient(device.address)
        switch(device, "SUCCESS")
        assert toggle(device.address) == b"ACK"


def test_script_first_attempt_disconnect_then_success() -> None:
    with ServerProcess("f00d", "--script", "DISCONNECT,SUCCESS") as device:
        with RawClient(device.address) as client:
            assert client.closed_by_server()
        assert toggle(device.address) == b"ACK"
        assert toggle(device.address) == b"ACK"


def test_script_first_attempt_timeout_then_success() -> None:
    with ServerProcess("f00d", "--script", "TIMEOUT,SUCCESS") as device:
        assert toggle(device.address, timeout_s=0.3) is None
        assert toggle(device.address) == b"ACK"


def test_script_counts_packets_on_one_connection_too() -> None:
    with ServerProcess("f00d", "--script", "SUCCESS*2,TIMEOUT,SUCCESS,DISCONNECT", "--ack", "framed") as device:
        packets = [packet() for _ in range(6)]
        with RawClient(device.address) as client:
            decoder = FramedAckDecoder()
            client.send(b"".join(map(encode_packet, packets)))
            acknowledged: list[str] = []
            while len(acknowledged) < 3:
                acknowledged += decoder.receive_data(client.receive())
            assert acknowledged == [packets[n].msg_id for n in (0, 1, 3)]
            assert client.closed_by_server()


def test_script_refuses_for_some_time() -> None:
    with ServerProcess("f00d", "--script", "SUCCESS,REJECT:0.3,SUCCESS") as device:
        assert toggle(device.address) == b"ACK"
        with pytest.raises(ConnectionRefusedError):
            RawClient(device.address)

        def serves() -> bool:
            try:
                return toggle(device.address) == b"ACK"
            except ConnectionRefusedError:
                return False

        wait_until(serves, "the device coming back")


def test_modes_can_change_while_it_runs_as_text_and_as_json(device: ServerProcess) -> None:
    admin = device.logged_address("admin_listening")
    expected = {"mode": "SUCCESS", "script": ["SUCCESS"], "delay_s": 2.0, "ack": "raw"}
    assert http_json(admin, "GET", "/mode") == expected
    status, _ = http_request(admin, "POST", "/mode", b"timeout*2, disconnect, success")
    assert status == 200
    assert http_json(admin, "GET", "/mode")["script"] == ["TIMEOUT*2", "DISCONNECT", "SUCCESS"]
    assert toggle(device.address, timeout_s=0.2) is None
    assert http_json(admin, "GET", "/mode")["script"] == ["TIMEOUT", "DISCONNECT", "SUCCESS"]
    switched = http_json(admin, "POST", "/mode", {"mode": "DELAY", "delay_s": 0.05})
    assert (switched["mode"], switched["delay_s"]) == ("DELAY", 0.05)
    assert toggle(device.address) == b"ACK"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"EXPLODE", "one of SUCCESS, DELAY, DISCONNECT, TIMEOUT, REJECT"),
        (b"", "is no step"),
        (b"SUCCESS:3", "SUCCESS takes no seconds"),
        (b"DELAY:9999999", "seconds from 0 to 3600"),
        (b"SUCCESS*0", "repeated 1 to"),
        (b"REJECT,SUCCESS", "needs its seconds"),
        (b"{}", "needs"),
        (b'{"mode": 3}', "needs"),
        (b'{"mode": "DELAY", "delay_s": -1}', "delay_s is a number"),
        (b"{", "neither a script nor a JSON object"),
        (b"SUCCESS," * 2000, "at most 1000 steps"),
    ],
)
def test_wrong_mode_is_refused_with_a_sentence_and_changes_nothing(body: bytes, sentence: str) -> None:
    with ServerProcess("f00d", "--admin-port", "0") as device:
        status, text = http_request(device.logged_address("admin_listening"), "POST", "/mode", body)
        assert status == 400
        assert sentence in text
        assert toggle(device.address) == b"ACK"


def test_admin_answers_404_405_and_413(device: ServerProcess) -> None:
    admin = device.logged_address("admin_listening")
    assert http_request(admin, "GET", "/elsewhere")[0] == 404
    assert http_request(admin, "POST", "/packets")[0] == 405
    assert http_request(admin, "POST", "/mode", b"x" * 70_000)[0] == 413


def test_packets_are_kept_for_inspection_and_bounded() -> None:
    with ServerProcess("f00d", "--keep-packets", "5", "--admin-port", "0") as device:
        admin = device.logged_address("admin_listening")
        sent = [packet(f"D{n % 2}", state=n % 3 == 0) for n in range(8)]
        for each in sent:
            assert toggle(device.address, each) == b"ACK"
        seen = http_json(admin, "GET", "/packets")
        assert (seen["received"], seen["kept"]) == (8, 5)
        kept = [(each["opcode"], each["device_id"], each["msg_id"], each["state"]) for each in seen["packets"]]
        assert kept == [tuple(each) for each in sent[3:]]
        one = http_json(admin, "GET", "/packets?device_id=D1")["packets"]
        assert {each["device_id"] for each in one} == {"D1"}
        assert len(one) == 3
        assert http_json(admin, "DELETE", "/packets")["packets"] == []
        assert http_json(admin, "GET", "/packets")["received"] == 8


GARBAGE = {
    "bad_magic": b"GET / HTTP/1.0\r\n\r\n",
    "bad_version": b"\xf0\x0d\x02\0\0\0\x02{}",
    "bad_length": b"\xf0\x0d\x01\xff\xff\xff\xff",
    "bad_json": b"\xf0\x0d\x01\0\0\0\x02{]",
    "bad_fields": b"\xf0\x0d\x01\0\0\0\x02{}",
}


def test_the_largest_payload_is_an_option() -> None:
    largest_bytes = len(encode_packet(packet("DEVICE123"))) - HEADER_BYTES
    with ServerProcess("f00d", "--max-payload-bytes", str(largest_bytes)) as device:
        assert toggle(device.address, packet("DEVICE123")) == b"ACK"
        assert toggle(device.address, packet("DEVICE1234")) == b""


def test_decode_errors_are_counted_by_reason_and_close_that_connection_only(device: ServerProcess) -> None:
    with RawClient(device.address) as good:
        for data in GARBAGE.values():
            with RawClient(device.address) as bad:
                bad.send(encode_packet(packet()) + data)
                assert bad.receive_until_closed() == b"ACK"  # what came before it is acknowledged
        good.send(encode_packet(packet()))
        assert good.receive() == b"ACK"
    text = metrics(device)
    for reason in GARBAGE:
        assert metric(text, f'tcp_comm_decode_errors_total{{device_id="unknown",reason="{reason}"}}') == 1
        device.wait_for_log(f"reason={reason} ")
    counts = http_json(device.logged_address("admin_listening"), "GET", "/counts")
    assert counts["decode_errors"] == dict.fromkeys(GARBAGE, 1)


def test_metrics_have_the_names_of_the_seed_and_equal_what_the_client_did(device: ServerProcess) -> None:
    for _ in range(3):
        assert toggle(device.address, packet("A")) == b"ACK"
    switch(device, "TIMEOUT,SUCCESS")
    assert toggle(device.address, packet("A"), timeout_s=0.2) is None
    assert toggle(device.address, packet("A")) == b"ACK"
    switch(device, "DELAY:0.3,SUCCESS")
    assert toggle(device.address, packet("B")) == b"ACK"
    text = metrics(device)
    assert metric(text, 'tcp_comm_packet_recv_total{device_id="A",outcome="success"}') == 5
    assert metric(text, 'tcp_comm_packet_sent_total{device_id="A",outcome="success"}') == 4
    assert metric(text, 'tcp_comm_packet_retransmit_total{device_id="A",reason="timeout"}') == 1
    assert metric(text, 'tcp_comm_packet_latency_seconds_count{device_id="A"}') == 4
    assert metric(text, 'tcp_comm_packet_latency_seconds_bucket{device_id="B",le="0.25"}') == 0
    assert metric(text, 'tcp_comm_packet_latency_seconds_bucket{device_id="B",le="+Inf"}') == 1
    assert metric(text, "f00d_connections_total") == 6


def test_client_that_leaves_before_its_delayed_acknowledgement_is_counted(device: ServerProcess) -> None:
    switch(device, "DELAY:0.1")
    with RawClient(device.address) as client:
        client.send(encode_packet(packet("GONE")))
        admin = device.logged_address("admin_listening")
        wait_until(lambda: http_json(admin, "GET", "/counts")["received"] == 1, "the packet")
        client.reset()
    sample = 'tcp_comm_packet_sent_total{device_id="GONE",outcome="error"}'
    wait_until(lambda: metric(metrics(device), sample) == 1, "the error counted")


def test_devices_beyond_the_bound_share_one_label() -> None:
    with ServerProcess("f00d", "--max-devices", "2", "--metrics-port", "0") as device:
        for device_id in ("A", "B", "C", "D", "A"):
            toggle(device.address, packet(device_id))
        text = metrics(device)
        assert metric(text, 'tcp_comm_packet_recv_total{device_id="A",outcome="success"}') == 2
        assert metric(text, 'tcp_comm_packet_recv_total{device_id="other",outcome="success"}') == 2
        assert 'device_id="C"' not in text


def test_half_a_packet_then_silence_is_closed_by_the_idle_timeout() -> None:
    with ServerProcess("f00d", "--idle-timeout", "0.2", "--metrics-port", "0") as device:
        with RawClient(device.address) as client:
            client.send(encode_packet(packet())[:20])
            assert client.receive_until_closed() == b""
        sample = 'tcp_comm_packet_recv_total{device_id="unknown",outcome="timeout"}'
        assert metric(metrics(device), sample) == 1


def test_half_closed_client_gets_its_delayed_acknowledgement() -> None:
    with ServerProcess("f00d", "--mode", "DELAY", "--delay-ms", "100") as device, RawClient(device.address) as client:
        client.send(encode_packet(packet()))
        client.half_close()
        assert client.receive_until_closed() == b"ACK"


def test_client_beyond_capacity_is_closed_and_others_are_served() -> None:
    with ServerProcess("f00d", "--max-clients", "1") as device, RawClient(device.address) as first:
        first.send(encode_packet(packet()))
        assert first.receive() == b"ACK"
        with RawClient(device.address) as second:
            assert second.closed_by_server()
        first.send(encode_packet(packet()))
        assert first.receive() == b"ACK"


def test_many_devices_at_once_are_all_acknowledged(device: ServerProcess) -> None:
    clients = [RawClient(device.address) for _ in range(300)]
    for number, client in enumerate(clients):
        client.send(encode_packet(packet(f"D{number}")))
    assert [client.receive() for client in clients] == [b"ACK"] * 300
    for client in clients:
        client.close()


def test_modes_switched_under_load_never_end_the_device(device: ServerProcess) -> None:
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                toggle(device.address, timeout_s=0.05)
            except OSError:
                pass  # refused, or reset: whatever the mode of the moment does

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        for script in ("SUCCESS", "DISCONNECT*2,SUCCESS", "REJECT:0.01,SUCCESS", "TIMEOUT", "DELAY:0.01", "REJECT"):
            switch(device, script)
    switch(device, "SUCCESS")
    stop.set()
    for thread in threads:
        thread.join()
    assert toggle(device.address) == b"ACK"
    assert "internal_error" not in device.log()


def test_command_line_refuses_a_wrong_script_with_a_sentence() -> None:
    with pytest.raises(AssertionError, match="is no step; write MODE"):
        ServerProcess("f00d", "--script", "SUCCESS,NONSENSE")
    with pytest.raises(AssertionError, match="a sequence is a --script"):
        ServerProcess("f00d", "--mode", "SUCCESS,TIMEOUT")
