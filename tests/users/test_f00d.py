"""The device client's attempts and its metrics under the seed's names."""

import json
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from locust.env import Environment

from records.performance_report import MAX_SAMPLES
from tests.dishonest.f00d_device import DISCONNECT, NAK, SILENT, Device
from tests.processes import ROOT
from tests.users.in_process import in_process
from users.engine.exchange import Request
from users.engine.f00d import F00DExchange
from users.f00d import AnyAckSession, F00DUser
from users.f00d_metrics import samples

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
        "device = f00d_metrics.DeviceMetrics('A')\n"
        "device.not_sent.inc(3)\n"
        "device.acknowledged(5_000_000)\n"
        "f00d_metrics.samples.add(1.5)\n"
        "assert total() >= 5 and f00d_metrics.samples.collect\n"
        "device.acknowledged(5_000_000)\n"
        "environment.events.test_start.fire(environment=environment)\n"
        "assert total() == 0, total()\n"
        "assert f00d_metrics.samples.take().count == 0\n"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 0, ended.stderr


MASTER = """
import json
from argparse import Namespace
from pathlib import Path
import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner
from records.performance_report import Samples
from users import f00d_report

class Master(MasterRunner):
    def __init__(self): pass

path = Path({path!r})
environment = Environment(parsed_options=Namespace(performance_report=str(path)))
environment.runner = Master()
events.init.fire(environment=environment)
fire = lambda event: getattr(environment.events, event).fire(environment=environment)

def report_of_worker(*samples_ms):
    samples = Samples()
    samples.extend(samples_ms)
    environment.events.worker_report.fire(client_id="w", data={{f00d_report.REPORT_KEY: samples.to_message()}})

def written():
    return json.loads(path.read_text())["samples_ms"]

fire("test_start")
report_of_worker(1.0)
fire("test_stop")
assert not path.exists(), "the workers' last samples are still to come"
report_of_worker(2.0)
fire("test_start")
assert written() == [1.0, 2.0], "the first test has its report when the second begins"
report_of_worker(3.0)
f00d_report.LAST_SAMPLES_WITHIN_S = 0.01
fire("test_stop")
with gevent.Timeout(30):
    while written() != [3.0]:
        gevent.sleep(0.01)
path.unlink()
environment.events.quit.fire(exit_code=0)
assert not path.exists(), "each test is reported once"
"""


def test_a_master_reports_each_test_that_it_is_told_to_start(tmp_path: Path) -> None:
    program = MASTER.format(path=str(tmp_path / "report.json"))
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("PERFORMANCE REPORT") == 2


@pytest.fixture
def happy_path() -> Iterator[Any]:
    samples.take()
    samples.collect = True
    yield samples
    samples.collect = False
    samples.take()


def test_the_engine_collects_the_round_trips_of_the_happy_path(happy_path: Any) -> None:
    with in_process(F00DUser, "tcp://127.0.0.1:9", engine=True, f00d_connections="reuse") as (user, _):
        exchange = user.exchange
        assert isinstance(exchange, F00DExchange)
        exchange._columns.reserve(0)
        exchange._express.record(0, None, 3, (0, 1_000_000, 3_000_000))
        first = Request("toggle", True, 3, 0)
        first.call_ns = first.first_call_ns = 1_000_000
        exchange.succeeded(first, 6_000_000)
        first.tries = 1
        exchange.succeeded(first, 9_000_000)
    taken = happy_path.take()
    assert (taken.count, taken.kept) == (4, [2.0, 2.0, 2.0, 5.0])


def test_beyond_the_limit_the_report_has_a_choice_of_all_round_trips(happy_path: Any) -> None:
    for sample_ms in (1.0, 2.0):
        for _ in range(10):
            happy_path.add(sample_ms, count=MAX_SAMPLES // 10)
    taken = happy_path.take()
    assert (taken.count, len(taken.kept)) == (2 * MAX_SAMPLES, MAX_SAMPLES)
    assert 0.45 < taken.kept.count(2.0) / MAX_SAMPLES < 0.55


def test_the_limits_of_an_attempt_are_options() -> None:
    options = {"f00d_timeout": 0.05, "f00d_connect_timeout": 0.2, "f00d_retry_delay": 0.0, "f00d_retry_jitter": 0.0}
    with Device((SILENT,), every=1) as device:
        began_s = time.monotonic()
        with in_process(F00DUser, f"tcp://127.0.0.1:{device.port}", attempts=3, **options) as (user, told):
            assert user.client.connect_timeout_s == 0.2
            assert not user.toggle()
        elapsed_s = time.monotonic() - began_s
        assert device.requests == 3
    assert sum(told.bad.values()) == 1
    assert elapsed_s < 2, "by default it would take over five seconds"


@pytest.mark.parametrize(("ack", "good"), [("raw", False), ("any", True)])
def test_any_reply_is_an_acknowledgement_if_one_wants_so(ack: str, good: bool) -> None:
    with (
        Device((NAK,), every=1, quota=1) as device,
        in_process(F00DUser, f"tcp://127.0.0.1:{device.port}", ack=ack) as (user, _),
    ):
        assert user.toggle() is good


def test_any_reply_may_come_in_pieces() -> None:
    session = AnyAckSession()
    assert [reply.data for reply in session.receive_data(b"O")] == [b"O"]
    assert list(session.receive_data(b"K")) == []


def test_any_reply_names_no_packet_so_its_connection_is_its_own() -> None:
    environment = Environment(
        user_classes=[F00DUser], parsed_options=Namespace(ack="any", f00d_connections="reuse"), host="tcp://127.0.0.1:9"
    )
    assert "leave out --f00d-connections" in F00DUser(environment).mistake
