"""Servers that answer well, each in its own way: none of them may be accused, whatever the engine foretold."""

import random
from pathlib import Path
from typing import Any

import pytest

from records.latency import LatencyStore
from tests.dishonest.envelope_server import EnvelopeServer, Message, pack
from tests.dishonest.tcp import MisbehavingServer, Peer
from tests.locustfiles.runs import LocustRun, run_locust

MISSING_TEXT = "missing reply: nothing came within the timeout"


def run(server: MisbehavingServer, directory: Path, *options: str, users: int = 4, seconds: float = 3) -> LocustRun:
    host = ("--host", f"tcp://127.0.0.1:{server.port}")
    return run_locust("envelope", directory, "--engine", *host, *options, users=users, seconds=seconds)


class PieceServer(EnvelopeServer):
    """Answers in order, in pieces of any size: what one recv brings never is what was sent together."""

    def send(self, peer: Peer, data: bytes) -> None:
        held = peer.state.setdefault("held", bytearray())
        held += data
        cut = random.randrange(len(held) + 1) if self.requests % 3 else len(held)
        super().send(peer, bytes(held[:cut]))
        del held[:cut]
        if held:
            super().send(peer, bytes(held))
            held.clear()


class ReorderingServer(EnvelopeServer):
    """Answers what it has read in another order, which ids allow."""

    def _answer(self, peer: Peer, message: Message, kind: str, following: list[Message]) -> None:
        batch = [message, *following]
        following.clear()
        random.shuffle(batch)
        self.send(peer, b"".join(pack(one) for one in batch))


class ClosingServer(EnvelopeServer):
    """Closes each connection after so many answers."""

    def _answer(self, peer: Peer, message: Message, kind: str, following: list[Message]) -> None:
        super()._answer(peer, message, kind, following)
        peer.state["answers"] = peer.state.get("answers", 0) + 1
        if peer.state["answers"] == 50:
            self.close(peer)


class SilentServer(MisbehavingServer):
    """Reads and never answers."""

    def on_data(self, peer: Peer) -> None:
        peer.received.clear()


class BusyServer(EnvelopeServer):
    """Refuses as busy now and then; the client must come back with the same request."""

    def _answer(self, peer: Peer, message: Message, kind: str, following: list[Message]) -> None:
        if random.random() < 0.03:  # six times in a row, after which a client gives up: once in a billion
            version, _, request_id, timestamp, _ = message
            self.send(peer, pack((version, 2, request_id, timestamp, b"server busy")))
        else:
            super()._answer(peer, message, kind, following)


@pytest.mark.parametrize("depth", [1, 16])
@pytest.mark.parametrize("server_class", [PieceServer, ReorderingServer, BusyServer])
def test_honest_servers_of_all_habits_give_no_failure(tmp_path: Path, server_class: Any, depth: int) -> None:
    with server_class() as server:
        result = run(server, tmp_path, "--depth", str(depth))
    assert result.errors == {}
    assert result.violations == {}
    assert result.exit_code == 0
    assert result.requests("echo") > 200


def test_large_payloads_come_in_many_pieces(tmp_path: Path) -> None:
    with EnvelopeServer() as server:
        result = run(server, tmp_path, "--depth", "4", "--payload-bytes", "300000")
    assert result.errors == {}
    assert result.requests("echo") > 20


def test_users_connect_again_when_their_server_closes(tmp_path: Path) -> None:
    with ClosingServer() as server:
        result = run(server, tmp_path)
    assert set(result.errors) <= {"connection closed by server", "connection reset by server"}
    assert result.violations == {}
    assert result.requests("connect") > 8
    assert result.requests("echo") > 50 * 8


def test_a_server_that_never_answers_is_a_timeout_for_every_place(tmp_path: Path) -> None:
    with SilentServer() as server:
        result = run(server, tmp_path, "--depth", "3", "--timeout", "0.5", users=2, seconds=4)
    assert result.errors.keys() == {MISSING_TEXT}
    assert result.errors[MISSING_TEXT] % 3 == 0
    assert result.requests("echo") == result.errors[MISSING_TEXT]


def test_a_refused_connection_fails_each_request_that_wanted_it(tmp_path: Path) -> None:
    with SilentServer() as server:
        port = server.port
    options = ("--host", f"tcp://127.0.0.1:{port}", "--connect-deadline", "0.3", "--engine")
    result = run_locust("envelope", tmp_path, *options, users=2, seconds=3)
    assert result.errors.keys() == {"connection refused: nothing listens at the host's port"}
    assert result.requests("echo") >= 2


@pytest.mark.parametrize("stop", [(), ("--stop-timeout", "1")])
def test_requests_under_way_at_the_end_are_cancelled_and_neither_success_nor_failure(
    tmp_path: Path, stop: tuple[str, ...]
) -> None:
    with SilentServer() as server:
        result = run(server, tmp_path, "--depth", "3", "--timeout", "30", *stop, users=2)
    assert result.errors == {}
    assert result.requests("echo") == 0
    assert LatencyStore.load(result.run).outcomes("envelope echo") == (0, 0, 0, 6)


def test_with_a_stop_timeout_requests_under_way_are_answered_first(tmp_path: Path) -> None:
    with EnvelopeServer() as server:
        result = run(server, tmp_path, "--depth", "8", "--stop-timeout", "10")
    ok, failed, unknown, cancelled = LatencyStore.load(result.run).outcomes("envelope echo")
    assert (failed, unknown, cancelled) == (0, 0, 0)
    assert ok > 200
    assert server.requests == ok


@pytest.mark.parametrize("engine", [True, False])
def test_locusts_table_and_our_histograms_count_the_same(tmp_path: Path, engine: bool) -> None:
    with EnvelopeServer() as server:
        host = f"tcp://127.0.0.1:{server.port}"
        result = run_locust("envelope", tmp_path, "--host", host, "--depth", "4", *(["--engine"] if engine else []))
    (row,) = [row for row in result.table if row["name"] == "echo"]
    summary = LatencyStore.load(result.run).summary("envelope echo")
    assert row["num_requests"] == summary.count
    assert row["num_failures"] == 0
    assert row["total_content_length"] == 64 * summary.count
    assert sum(row["response_times"].values()) == summary.count
    assert row["total_response_time"] == pytest.approx(
        summary.mean_us * summary.count / 1000, rel=0.01, abs=summary.count / 1e3
    )
    assert row["max_response_time"] == pytest.approx(summary.max_us / 1000, rel=0.01, abs=0.01)
    assert sum(row["num_reqs_per_sec"].values()) == summary.count
    assert server.requests >= summary.count


def test_think_time_is_kept(tmp_path: Path) -> None:
    scenario = tmp_path / "thinking.py"
    scenario.write_text(
        "from locust import constant\n"
        "from locustfiles.envelope import Echo\n"
        "class Thinking(Echo):\n"
        "    wait_time = constant(0.1)\n"
        "Echo.abstract = True\n"
    )
    with EnvelopeServer() as server:
        options = ("--host", f"tcp://127.0.0.1:{server.port}", "--engine")
        result = run_locust(str(scenario), tmp_path, *options, users=5, seconds=4)
    assert result.errors == {}
    # Five users, a tenth of a second each, four seconds: never more than 200 and one more each.
    assert 20 < result.requests("echo") <= 205
