"""A codec and a user of one's own get connections, depth, checks, records and failures for nothing."""

from pathlib import Path

from records import violations
from tests.dishonest.tcp import MisbehavingServer, Peer
from tests.locustfiles.runs import run_locust

SCENARIO = str(Path(__file__).with_name("line_scenario.py"))
QUOTA = 10

LOWER, TWICE, GARBAGE = "answer in lower case", "answer twice", "answer with something else"


class LineServer(MisbehavingServer):
    def on_data(self, peer: Peer) -> None:
        while b"\n" in peer.received:
            line, _, rest = bytes(peer.received).partition(b"\n")
            peer.received[:] = rest
            number, text = line.split(b" ", 1)
            kind = self.misdeed()
            reply = b"%s %s\n" % (number, text if kind == LOWER else text.upper())
            self.send(peer, b"what?\n" if kind == GARBAGE else reply * 2 if kind == TWICE else reply)


def test_a_protocol_of_ones_own_runs_with_many_requests_in_flight(tmp_path: Path) -> None:
    with LineServer() as server:
        result = run_locust(SCENARIO, tmp_path, "--host", f"tcp://127.0.0.1:{server.port}", "--depth", "8")
    assert result.errors == {}
    assert result.requests("capitals") > 1000
    assert result.exit_code == 0
    assert "line capitals" in (result.run.path / "requests.csv").read_text()


def test_its_own_check_and_the_cores_checks_find_what_is_wrong(tmp_path: Path) -> None:
    with LineServer((LOWER, TWICE, GARBAGE), quota=QUOTA) as server:
        host = f"tcp://127.0.0.1:{server.port}"
        result = run_locust(SCENARIO, tmp_path, "--host", host, "--timeout", "0.5")
    assert server.is_done
    assert result.violations == {
        violations.PAYLOAD: QUOTA,
        violations.DUPLICATE: QUOTA,
        violations.SHAPE: QUOTA,
    }
    assert result.errors["malformed reply: the codec cannot read it"] == QUOTA
    assert result.exit_code == 1
    assert "Traceback" not in result.log, "a codec that raises is the server's failure, not ours"
