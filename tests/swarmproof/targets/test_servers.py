"""Reference servers and commands of the user as targets."""

import re
import socket
import sys

import pytest

from protocols.host import parse_host
from swarmproof.targets.base import Surroundings, Target, accepts, member_named, start_all, stop_all
from swarmproof.targets.command import CommandTarget, LogReady, TcpReady, parse_ready
from swarmproof.targets.errors import NoSuchTarget, TargetError, TargetNotReady, TargetNotStarted
from swarmproof.targets.ports import free_ports, is_free
from swarmproof.targets.process import State
from swarmproof.targets.servers import SCHEMES, ServerTarget

LISTENER = """import socket, time
server = socket.create_server(("127.0.0.1", {port}))
print("serving", flush=True)
time.sleep(300)
"""


def listener(around: Surroundings, **options: object) -> CommandTarget:
    return CommandTarget([sys.executable, "-c", LISTENER], around, name="mine", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SCHEMES)
def test_each_reference_server_answers_at_its_address_when_started(kind: str, around: Surroundings) -> None:
    target = ServerTarget(kind, around)
    target.start()
    host = parse_host(target.address)
    assert host.scheme == SCHEMES[kind]
    assert accepts(*host.addresses[0])
    target.stop()
    assert is_free(host.addresses[0][1])


def test_a_server_that_was_killed_comes_back_on_the_same_port(around: Surroundings) -> None:
    target = ServerTarget("envelope", around)
    target.start()
    (member,) = target.members
    member.process.kill()
    assert not member.answers()
    member.start()
    assert member.answers()
    target.stop()


def test_a_port_in_use_is_one_sentence_and_nothing_runs(around: Surroundings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        target = ServerTarget("envelope", around, port=port)
        with pytest.raises(TargetNotStarted, match=rf"cannot start envelope: port {port} is in use; stop the program"):
            target.start()
    assert target.members[0].process.state is State.NOT_STARTED


def test_a_free_port_that_somebody_takes_meanwhile_is_replaced(around: Surroundings) -> None:
    target = ServerTarget("envelope", around)
    first = target.members[0].port
    with socket.create_server(("127.0.0.1", first)):
        target.start()
    assert target.members[0].port != first
    assert target.address.endswith(f":{target.members[0].port}")
    target.stop()


def test_a_wrong_option_of_a_server_is_reported_with_what_the_server_says(around: Surroundings) -> None:
    with pytest.raises(TargetNotStarted, match=r"--no-such-option"):
        ServerTarget("envelope", around, arguments=["--no-such-option"]).start()


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_nothing_accepts_at_a_host_that_can_be_no_name(host: str) -> None:
    assert not accepts(host, 9000)


def test_a_command_is_ready_when_its_port_accepts(around: Surroundings) -> None:
    target = listener(around)
    target.start()
    assert accepts(*parse_host(target.address).addresses[0])
    target.stop()


def test_a_command_is_ready_when_its_log_says_so(around: Surroundings) -> None:
    target = listener(around, ready="log:^serving$", host="ws://127.0.0.1:{port}/path")
    target.start()
    assert re.fullmatch(r"ws://127.0.0.1:\d+/path", target.address)
    assert target.members[0].answers()
    target.stop()
    assert not target.members[0].answers()


def test_a_command_that_never_listens_is_stopped_again(around: Surroundings) -> None:
    target = CommandTarget("sleep 300", around, name="mine", ready_within_s=0.2)
    with pytest.raises(TargetNotReady, match="mine did not accept connections on port"):
        target.start()
    assert target.members[0].process.state is State.EXITED


def test_a_command_with_its_port_in_use_does_not_start(around: Surroundings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TargetNotStarted, match="is in use"):
        listener(around, port=taken.getsockname()[1]).start()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("tcp", TcpReady("127.0.0.1", 9)), ("tcp:80", TcpReady("127.0.0.1", 80)), ("tcp:a.b:80", TcpReady("a.b", 80))],
)
def test_ready_names_a_place(text: str, expected: TcpReady) -> None:
    assert parse_ready(text, 9) == expected


def test_ready_can_be_a_line_of_the_log() -> None:
    ready = parse_ready("log:up on .*", 9)
    assert isinstance(ready, LogReady)
    assert ready.pattern.search("up on 1")


@pytest.mark.parametrize("text", ["", "udp", "tcp:", "tcp:x", "tcp:70000", "log:", "log:("])
def test_ready_that_cannot_be_understood_is_a_sentence(text: str) -> None:
    if text == "tcp:":
        assert parse_ready(text, 9) == TcpReady("127.0.0.1", 9)
        return
    with pytest.raises(TargetError, match="ready = "):
        parse_ready(text, 9)


@pytest.mark.parametrize(("command", "words"), [("", "is empty"), ("a 'b", "is not a command line")])
def test_a_command_that_is_none_is_a_sentence(command: str, words: str, around: Surroundings) -> None:
    with pytest.raises(TargetError, match=words):
        CommandTarget(command, around, name="mine")


def test_when_one_target_fails_those_before_it_are_stopped(around: Surroundings) -> None:
    good, bad = listener(around), CommandTarget("false", around, name="bad")
    targets: list[Target] = [good, bad]
    said: list[str] = []
    with pytest.raises(TargetNotStarted, match="bad did not start: it exited with code 1"):
        start_all(targets, said.append)
    assert good.members[0].process.state is State.EXITED
    assert len(said) == 1


def test_members_are_found_by_name_and_strangers_named_with_what_there_is(around: Surroundings) -> None:
    target = listener(around)
    assert member_named([target], "mine") is target.members[0]
    with pytest.raises(NoSuchTarget, match="there is no 'other' here; there are: mine"):
        member_named([target], "other")


def test_stopping_is_idempotent(around: Surroundings) -> None:
    target = listener(around, port=free_ports(1)[0])
    target.start()
    assert stop_all([target]) == []
    assert stop_all([target]) == []
