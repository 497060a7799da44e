"""The control socket: private, bounded, and never a reason for the run to end."""

import errno
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from records.run_directory import CONTROL_SOCKET, RunDirectory
from swarmproof import control
from swarmproof.control import ControlError, ControlServer, ask, find_run


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("command") == "fail":
        raise ValueError("there is no command 'fail'")
    return {"asked": request}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "test")


@pytest.fixture
def server(run: RunDirectory) -> Iterator[ControlServer]:
    server = ControlServer(run, answer)
    yield server
    server.close()


def say(run: RunDirectory, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(run.file(CONTROL_SOCKET)))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def test_a_request_gets_its_reply(run: RunDirectory, server: ControlServer) -> None:
    assert ask(run, {"command": "status", "n": 1}) == {"asked": {"command": "status", "n": 1}}


def test_many_may_ask_at_the_same_time(run: RunDirectory, server: ControlServer) -> None:
    replies: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: replies.append(ask(run, {"n": n}))) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reply["asked"]["n"] for reply in replies) == list(range(40))


def test_the_socket_is_for_its_owner_only(run: RunDirectory, server: ControlServer) -> None:
    assert stat.S_IMODE(run.file(CONTROL_SOCKET).stat().st_mode) == 0o600


def test_a_stranger_is_refused_even_when_the_mode_lets_him_in(
    run: RunDirectory, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.path.chmod(0o666)
    stranger = os.getuid() + 1
    peer = control.struct.pack("3i", os.getpid(), stranger, stranger)

    class Stranger:
        def getsockopt(self, *_: int) -> bytes:
            return peer

    assert not control.may_speak(Stranger())  # type: ignore[arg-type]
    monkeypatch.setattr(control, "may_speak", lambda connection: False)
    with pytest.raises(ControlError, match="belongs to another user"):
        ask(run, {"command": "down"})


def test_an_error_of_the_handler_is_the_reply(run: RunDirectory, server: ControlServer) -> None:
    with pytest.raises(ControlError, match="there is no command 'fail'"):
        ask(run, {"command": "fail"})


@pytest.mark.parametrize("data", [b"", b"\n", b"{", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_garbage_gets_an_error_and_the_next_request_an_answer(
    data: bytes, run: RunDirectory, server: ControlServer
) -> None:
    assert "error" in json.loads(say(run, data))
    assert ask(run, {"n": 1})


def test_a_client_that_says_nothing_does_not_keep_others_waiting(run: RunDirectory, server: ControlServer) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(run.file(CONTROL_SOCKET)))
        assert ask(run, {"n": 1})


def test_closing_removes_the_socket_and_later_requests_are_a_sentence(run: RunDirectory) -> None:
    server = ControlServer(run, answer)
    server.close()
    server.close()
    assert not server.path.exists()
    with pytest.raises(ControlError, match=r"no supervisor runs in .*; start one with `swarmproof up`"):
        ask(run, {})


def test_the_socket_of_a_supervisor_that_was_killed_is_replaced(run: RunDirectory) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run.file(CONTROL_SOCKET)))
    with pytest.raises(ControlError, match="no supervisor runs"):
        ask(run, {})
    server = ControlServer(run, answer)
    assert ask(run, {"n": 1})
    server.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux can shorten a path")
def test_a_run_directory_with_a_long_path_works(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / ("a" * 100) / ("b" * 100), "test")
    server = ControlServer(run, answer)
    assert ask(run, {"n": 1}) == {"asked": {"n": 1}}
    server.close()
    assert not server.path.exists()


def test_the_newest_run_is_found_or_its_absence_said(run: RunDirectory, tmp_path: Path) -> None:
    assert find_run(None, tmp_path).path == run.path.resolve()
    assert find_run(run.path, Path("elsewhere")).path == run.path.resolve()
    newer = RunDirectory.create(tmp_path, "plain-locust-run")
    assert find_run(None, tmp_path).path == newer.path.resolve()
    server = ControlServer(run, answer)
    assert find_run(None, tmp_path).path == run.path.resolve(), "a newer run without a supervisor hides the supervisor"
    server.close()
    with pytest.raises(ControlError, match=r"there is no run in .*nowhere"):
        find_run(None, tmp_path / "nowhere")


def test_a_caller_that_says_nothing_is_told_so_and_leaves_no_traceback(
    run: RunDirectory, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    monkeypatch.setattr(control, "READ_WITHIN_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(20)
        silent.connect(str(run.file(CONTROL_SOCKET)))
        assert "error" in json.loads(silent.recv(65536))
        assert silent.recv(65536) == b""
    assert ask(run, {"n": 1})
    assert raised == []


def test_an_accept_that_fails_does_not_end_the_answers(
    run: RunDirectory, server: ControlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()
    real = server._listener

    class OutOfDescriptors:
        def accept(self) -> Any:
            monkeypatch.setattr(server, "_listener", real)
            failed.set()
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(server, "_listener", OutOfDescriptors())
    assert ask(run, {"n": 1})  # for this one the thread was waiting already
    assert failed.wait(20)
    assert ask(run, {"n": 2}) == {"asked": {"n": 2}}
