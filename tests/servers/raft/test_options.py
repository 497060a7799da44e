"""The Raft node's command line, without starting one."""

from pathlib import Path

import pytest

from servers.raft.options import addresses, parse_arguments
from servers.serving import CannotServe


def test_a_lone_node_takes_its_defaults() -> None:
    arguments = parse_arguments([])
    assert (arguments.node_id, arguments.host, arguments.port, arguments.peer_port) == (1, "127.0.0.1", 9001, None)
    assert (list(arguments.peers), arguments.data_dir, arguments.fsync) == ([1], None, True)
    assert (arguments.tick_s, arguments.election_ticks) == (0.01, (30, 60))


def test_ports_come_from_the_lists_unless_given(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery staple\n")
    common = ["--id", "n2", "--peers", "1=a:11,2=b:12,3=c:13", "--clients", "1=a:1,2=b:2,3=c:3"]
    arguments = parse_arguments([*common, "--secret-file", str(secret)])
    assert (arguments.node_id, arguments.port, arguments.peer_port) == (2, 2, 12)
    assert arguments.secret == b"correct horse battery staple"
    arguments = parse_arguments([*common, "--secret-file", str(secret), "--port", "0", "--peer-port", "7"])
    assert (arguments.port, arguments.peer_port) == (0, 7)


def test_addresses_may_be_ipv6_and_named_like_nodes() -> None:
    assert addresses("1=127.0.0.1:9101, n2=[::1]:9102") == {1: ("127.0.0.1", 9101), 2: ("::1", 9102)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--id", "0"], "a node is a whole number from 1"),
        (["--peers", "127.0.0.1:9101"], "write N=HOST:PORT"),
        (["--peers", "1=127.0.0.1:0"], "write N=HOST:PORT"),
        (["--peers", "1=a:1,1=b:2"], "node 1 is given twice"),
        (["--peers", ",".join(f"{n}=a:{n}" for n in range(1, 11))], "10 nodes: at most 9"),
        (["--election-ms", "300"], "write MIN-MAX in milliseconds"),
        (["--election-ms", "600-300"], "must be above 0 and not above the second"),
        (["--heartbeat-ms", "0"], "give at least 1 ms"),
        (["--cluster-id", ""], "a name of 1 to 128 printable bytes"),
        (["--cluster-id", "a\nb"], "a name of 1 to 128 printable bytes"),
        (["--snapshot-entries", "0"], "whole number from 1"),
    ],
)
def test_a_malformed_option_is_refused_with_how_to_write_it(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(options)
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--peers", "1=a:1,2=b:2,3=c:3"], "--peers is given but not --id"),
        (["--id", "4", "--peers", "1=a:1,2=b:2,3=c:3"], "--id 4 is not among --peers (1, 2, 3)"),
        (["--id", "1", "--peers", "1=a:1,2=b:2", "--clients", "1=a:1,2=b:2"], "a cluster needs --secret-file"),
        (["--election-ms", "90-100"], "too short for --heartbeat-ms 50"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: list[str], sentence: str) -> None:
    with pytest.raises(CannotServe) as caught:
        parse_arguments(options)
    assert sentence in str(caught.value)
