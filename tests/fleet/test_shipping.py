"""A worker's files arrive at the master byte for byte, and only where records belong."""

from pathlib import Path

import pytest

from records.run_directory import RunDirectory
from swarmproof.fleet import shipping
from swarmproof.fleet.load_facts import without_secrets
from swarmproof.fleet.shipping import MAX_UNSHIPPED_DELTAS, Receiver, Shipper


def test_files_arrive_whole_however_they_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "SHIP_BYTES_PER_REPORT", 10)
    monkeypatch.setattr(shipping.tempfile, "tempdir", str(tmp_path))
    run = RunDirectory.create(tmp_path / "runs", "x")
    receiver, shipper = Receiver(run), Shipper("w")
    local = RunDirectory(shipper.local_directory())
    local.prepare()
    for round_number in range(5):
        with (local.operations_dir / "w.msgpack").open("ab") as file:
            file.write(bytes([round_number]) * 17)
        with (local.violations_dir / "w.jsonl").open("ab") as file:
            file.write(b"x" * 3)
        with local.file("breaker-w.jsonl").open("ab") as file:
            file.write(b"{}\n" * round_number)
        receiver.accept(shipper.take())
    while (report := shipper.take())["files"]:
        receiver.accept(report)
    for name in ("operations/w.msgpack", "violations/w.jsonl", "breaker-w.jsonl"):
        assert (run.path / name).read_bytes() == (local.path / name).read_bytes()
    shipper.close()
    assert not local.path.exists()


@pytest.mark.parametrize(
    "name",
    ["../evil", "operations/../../evil", "nodes/x", "operations/", "/etc/passwd", "run.json", "x/breaker-w.jsonl"],
)
def test_a_worker_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    receiver = Receiver(RunDirectory.create(tmp_path, "x"))
    with pytest.raises(ValueError, match="may not write"):
        receiver.accept({"files": [[name, 0, b"x"]]})


def test_deltas_for_an_unreachable_master_are_bounded() -> None:
    shipper = Shipper("w")
    for number in range(MAX_UNSHIPPED_DELTAS + 5):
        shipper.add({"operations": {"a": number}})
    assert len(shipper.take()["deltas"]) == MAX_UNSHIPPED_DELTAS
    assert shipper.take()["deltas"] == []


def test_passwords_do_not_reach_the_run_directory() -> None:
    command = ["--web-login", "--tls-key=/k", "--password", "hunter2", "-u", "20", "--api-token=abc"]
    assert without_secrets(command) == [
        "--web-login",
        "--tls-key=***",
        "--password",
        "***",
        "-u",
        "20",
        "--api-token=***",
    ]


def test_a_report_that_was_lost_is_shipped_again_and_leaves_no_hole(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs", "x")
    receiver, shipper = Receiver(run), Shipper("w")
    local = RunDirectory(shipper.local_directory())
    local.prepare()
    path = local.operations_dir / "w.msgpack"
    for part in (b"first", b"second", b"third"):
        with path.open("ab") as file:
            file.write(part)
        report = shipper.take()
        if part != b"second":  # that one never arrives
            receiver.accept(report)
    assert (run.operations_dir / "w.msgpack").read_bytes() == b"first"
    assert receiver.lacking == {"operations/w.msgpack": len(b"first")}
    shipper.rewind(receiver.lacking)
    receiver.accept(shipper.take())
    assert receiver.lacking == {}
    assert (run.operations_dir / "w.msgpack").read_bytes() == b"firstsecondthird"
    shipper.close()


def test_a_request_to_ship_what_was_never_shipped_changes_nothing(tmp_path: Path) -> None:
    shipper = Shipper("w")
    shipper.local_directory()
    shipper.rewind({"operations/other.msgpack": 3})
    assert shipper.take()["files"] == []
    shipper.close()
