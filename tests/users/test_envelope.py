"""What an envelope server may say besides an echo: busy, at capacity, an error; and the one-way log."""

from pathlib import Path

from tests.dishonest.envelope_server import EnvelopeServer, pack
from tests.dishonest.tcp import Peer
from tests.locustfiles.runs import LocustRun, run_locust
from tests.processes import ServerProcess

BUSY = "busy"
ERROR = 2


class BusyServer(EnvelopeServer):
    """Answers `busy` often times in a row with ERROR "server busy"."""

    def on_data(self, peer: Peer) -> None:
        for message in self._messages(peer):
            busy = self.misdeed() == BUSY
            self.send(peer, pack((1, ERROR, message[2], 0, b"server busy") if busy else message))


class FullServer(EnvelopeServer):
    """Sends every client away."""

    def on_data(self, peer: Peer) -> None:
        self.send(peer, pack((1, ERROR, 0, 0, b"server at capacity")))
        self.close(peer)


def run(server: EnvelopeServer, directory: Path, seconds: float = 3) -> LocustRun:
    return run_locust("envelope", directory, "--host", f"tcp://127.0.0.1:{server.port}", seconds=seconds)


def test_a_busy_server_is_asked_again_and_that_is_no_failure(tmp_path: Path) -> None:
    with BusyServer((BUSY,), every=5, quota=200) as server:
        result = run(server, tmp_path)
    assert server.planted[BUSY] > 20
    assert result.errors == {}
    assert result.exit_code == 0


def test_a_server_that_stays_busy_is_a_failure_after_five_retries(tmp_path: Path) -> None:
    with BusyServer((BUSY,), every=1, quota=1_000_000) as server:
        result = run(server, tmp_path)
    assert result.errors.keys() == {"server busy"}
    # Those that ended took six requests each; the others were stopped on their way.
    assert server.requests >= 6 * result.errors["server busy"]
    assert server.requests <= 6 * (result.errors["server busy"] + 4)


def test_a_server_at_capacity_says_so_in_the_failure_table(tmp_path: Path) -> None:
    with FullServer() as server:
        result = run(server, tmp_path)
    assert result.errors.keys() == {"server at capacity"}
    assert result.violations == {}
    assert result.exit_code == 1


def test_the_reference_server_at_capacity_is_understood(tmp_path: Path) -> None:
    with ServerProcess("envelope", "--max-clients", "2") as server:
        result = run_locust("envelope", tmp_path, "--host", f"tcp://127.0.0.1:{server.port}", users=4)
    assert "server at capacity" in result.errors
    assert result.violations == {}
    assert result.requests("echo") > 100


def test_a_log_message_goes_one_way(tmp_path: Path) -> None:
    scenario = tmp_path / "log_scenario.py"
    scenario.write_text(
        "from locust import constant, task\n"
        "from swarmproof.fleet import extension\n"
        "from users.envelope import EnvelopeUser\n"
        "class Logger(EnvelopeUser):\n"
        "    wait_time = constant(0.05)\n"
        "    @task\n"
        "    def log(self):\n"
        "        assert self.client.log(b'over and out')\n"
    )
    with ServerProcess("envelope") as server:
        result = run_locust(str(scenario), tmp_path, "--host", f"tcp://127.0.0.1:{server.port}", users=2)
        assert "over and out" in server.log()
    assert result.requests("log") > 10
    assert result.errors == {}
    assert result.exit_code == 0
