"""The hostile scenario: good users and attackers on three servers at once."""

from pathlib import Path

from protocols.hostile import KINDS
from tests.dishonest.envelope_server import EnvelopeServer
from tests.locustfiles.runs import run_locust
from tests.processes import ServerProcess


def test_good_users_see_no_failure_while_hostile_ones_attack(tmp_path: Path) -> None:
    silence = ("--idle-timeout", "1", "--write-timeout", "1")
    with (
        ServerProcess("envelope", *silence) as envelope,
        ServerProcess("f00d", *silence) as f00d,
        ServerProcess(
            "websocket_echo",
            *("--ping-interval", "1", "--ping-timeout", "1", "--handshake-timeout", "1", "--write-timeout", "1"),
        ) as echo,
    ):
        hosts = ("--envelope-host", f"tcp://127.0.0.1:{envelope.port}", "--f00d-host", f"tcp://127.0.0.1:{f00d.port}")
        hosts += ("--echo-host", f"ws://127.0.0.1:{echo.port}")
        result = run_locust("hostile", tmp_path, *hosts, "--patience", "10", users=80, seconds=8)
        assert result.errors == {}
        assert result.violations == {}
        assert result.exit_code == 0, result.log
        for kind in KINDS:
            assert result.requests(kind) > 0, kind
        for good in ("echo", "toggle", "echo text"):
            assert result.requests(good) > 20, good


def test_a_server_that_holds_silent_clients_open_is_told(tmp_path: Path) -> None:
    scenario = tmp_path / "vandals.py"
    scenario.write_text(
        "from locust import constant, task\n"
        "from protocols.hostile import PARTIAL_HEADER\n"
        "from swarmproof.fleet import extension\n"
        "from users.hostile import HostileEnvelopeUser\n"
        "class Vandal(HostileEnvelopeUser):\n"
        "    wait_time = constant(0)\n"
        "    @task\n"
        "    def attack(self):\n"
        "        assert not self.client.attack(PARTIAL_HEADER)\n"
    )
    with EnvelopeServer() as server:  # it has no timeouts
        host = f"tcp://127.0.0.1:{server.port}"
        result = run_locust(str(scenario), tmp_path, "--host", host, "--patience", "0.3", users=2)
    assert result.errors.keys() == {"held open beyond the server's timeouts"}
    assert result.exit_code == 1
