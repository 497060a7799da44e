"""The device client's attempts and its metrics under the seed's names."""

import json
import subprocess
import sys
from typing import Any

from tests.dishonest.f00d_device import DISCONNECT, NAK, SILENT, Device
from tests.processes import ROOT

DEADLINE_S = 60


def probe(port: int, toggles: int, attempts: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.users.f00d_probe", str(port), str(toggles), str(attempts)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def test_acknowledged_packets_are_counted_and_timed() -> None:
    with Device() as device:
        result = probe(device.port, toggles=5, attempts=2)
    assert result["outcomes"] == [True] * 5
    samples = result["samples"]
    assert samples["tcp_comm_packet_sent_total|success"] == 5
    assert samples["tcp_comm_packet_recv_total|success"] == 5
    assert samples["tcp_comm_packet_latency_seconds_count"] == 5
    assert "tcp_comm_packet_retransmit_total|timeout" not in samples


def test_a_silent_and_a_closing_device_are_retransmitted_to_for_their_reasons() -> None:
    with Device((SILENT, DISCONNECT), every=1, quota=1) as device:
        result = probe(device.port, toggles=1, attempts=3)
    assert result["outcomes"] == [True]
    assert result["samples"]["tcp_comm_packet_retransmit_total|timeout"] == 1
    assert result["samples"]["tcp_comm_packet_retransmit_total|connection_failed"] == 1
    assert result["samples"]["tcp_comm_packet_recv_total|timeout"] == 1


def test_a_device_that_is_not_there_fails_after_all_attempts() -> None:
    with Device() as device:
        port = device.port
    result = probe(port, toggles=1, attempts=2)
    assert result["outcomes"] == [False]
    assert result["samples"]["tcp_comm_packet_sent_total|error"] == 2
    assert result["samples"]["tcp_comm_packet_retransmit_total|connection_failed"] == 1


def test_an_unreadable_acknowledgement_is_a_decode_error_and_no_second_attempt() -> None:
    with Device((NAK,), every=1, quota=1) as device:
        result = probe(device.port, toggles=1, attempts=5)
        assert device.requests == 1
    assert result["outcomes"] == [False]
    assert result["samples"]["tcp_comm_decode_errors_total|wrong acknowledgement"] == 1


def test_each_run_of_one_process_begins_with_empty_metrics() -> None:
    program = (
        "from locust.env import Environment\n"
        "from locust import events\n"
        "from argparse import Namespace\n"
        "from users import f00d_metrics, f00d_report\n"
        "environment = Environment(parsed_options=Namespace(performance_report='x.json'))\n"
        "environment.create_local_runner()\n"
        "events.init.fire(environment=environment)\n"
        "def total(): return sum(s.value for m in f00d_metrics.registry.collect() for s in m.samples)\n"
        "environment.events.test_start.fire(environment=environment)\n"
        "f00d_metrics.DeviceMetrics('A').sent.inc(3)\n"
        "f00d_metrics.samples.add(1.5)\n"
        "assert total() >= 3 and f00d_metrics.samples.collect\n"
        "environment.events.test_start.fire(environment=environment)\n"
        "assert total() == 0, total()\n"
        "assert f00d_metrics.samples.take() == []\n"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 0, ended.stderr
