"""Seed 004's script: line by line when it passes, a clear sentence when it does not, nothing left either way."""

import re
import socket
from pathlib import Path

import pytest

from swarmproof.acceptance.election_test import election_test
from swarmproof.targets.ports import free_ports, is_free
from swarmproof.targets.raft_watch import RaftWatch
from tests.swarmproof.leftovers import swarmproof

LINES = [
    r"Starting node 1 on port \d+\.\.\. OK",
    r"Starting node 2 on port \d+\.\.\. OK",
    r"Starting node 3 on port \d+\.\.\. OK",
    r"Waiting for leader\.\.\. node [123] elected \(term \d+\)",
    r"Writing key1=value1\.\.\. OK",
    r"Writing key2=value2\.\.\. OK",
    r"Writing key3=value3\.\.\. OK",
    r"Killing leader \(node [123]\)\.\.\. OK",
    r"Waiting for new leader\.\.\. node [123] elected \(term \d+\)",
    r"Writing key4=value4\.\.\. OK",
    r"Writing key5=value5\.\.\. OK",
    *(rf"Reading key{n} from follower\.\.\. value{n} OK" for n in range(1, 6)),
    r"PASS: all checks passed",
]


def run(**options: object) -> tuple[bool, list[str]]:
    pieces: list[str] = []
    passed = election_test(pieces.append, **options)  # type: ignore[arg-type]
    return passed, "".join(pieces).splitlines()


def test_the_script_passes_line_by_line() -> None:
    ports = free_ports(3)
    passed, lines = run(ports=ports)
    assert passed, lines
    assert len(lines) == len(LINES)
    for line, pattern in zip(lines, LINES, strict=True):
        assert re.fullmatch(pattern, line), line
    (first,) = re.findall(r"node (\d) elected \(term (\d+)\)", lines[3])
    (second,) = re.findall(r"node (\d) elected \(term (\d+)\)", lines[8])
    assert first[0] != second[0]
    assert int(second[1]) > int(first[1])
    assert f"node {first[0]}" in lines[7]
    assert all(is_free(port) for port in ports)


def test_the_command_exits_with_0_and_leaves_nothing(tmp_path: Path) -> None:
    done = swarmproof("election-test", "--ports", ",".join(map(str, free_ports(3))), directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "PASS: all checks passed"
    assert list(tmp_path.iterdir()) == []


def test_a_node_whose_port_is_taken_fails_with_a_sentence_and_stops_the_others(tmp_path: Path) -> None:
    first, second, third = free_ports(3)
    with socket.create_server(("127.0.0.1", second)):
        done = swarmproof("election-test", "--ports", f"{first},{second},{third}", directory=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        f"FAIL: port {second} is in use; stop the program that uses it or choose other ports"
    )
    assert is_free(first)


def test_an_election_that_takes_too_long_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RaftWatch, "wait_for_leader", lambda *_, **__: None)
    passed, lines = run(ports=free_ports(3))
    assert not passed
    assert lines[-2:] == ["Waiting for leader... FAILED", "FAIL: no leader within 2 s"]


def test_a_node_that_does_not_start_fails_with_what_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = tmp_path / "n1" / "data"
    data.parent.mkdir()
    data.write_text("a file where a directory should be")
    monkeypatch.setattr("swarmproof.acceptance.election_test._must_be_new", lambda _: None)
    passed, lines = run(ports=free_ports(3), directory=tmp_path)
    assert not passed
    assert lines[0].endswith("FAILED")
    assert lines[1].startswith("FAIL: n1 did not start: it exited with code")


def test_ports_that_are_none_are_a_users_mistake(tmp_path: Path) -> None:
    done = swarmproof("election-test", "--ports", "9001,x", directory=tmp_path)
    assert done.returncode == 3
    assert done.stderr == "error: --ports 9001,x must be three ports, such as 9001,9002,9003\n"


def test_a_folder_that_an_earlier_cluster_left_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "n1").mkdir()
    done = swarmproof("election-test", "--keep", str(tmp_path), directory=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"error: {tmp_path} is not empty; give --keep a new folder, or empty it\n"
