"""F00D devices that acknowledge wrongly: it is never taken for a right acknowledgement, nor hidden by a retry."""

from pathlib import Path

from records import violations
from tests.dishonest import f00d_device as misdeeds
from tests.dishonest.f00d_device import Device, FramedDevice
from tests.locustfiles.runs import LocustRun, run_locust

Mode = tuple[str, ...]

QUOTA = 8
REUSE = ("--ack", "framed", "--f00d-connections", "reuse")


def run(
    device: Device,
    directory: Path,
    mode: Mode,
    *options: str,
    seconds: float = 30,
    until: tuple[int, int] | None = None,
) -> LocustRun:
    """So long, or until so many violations and failures."""
    # The engine has connections that stay; scripted users without these have one for each attempt.
    kept = ("--f00d-connections", "reuse") if mode else ()
    host = f"tcp://127.0.0.1:{device.port}"
    return run_locust("f00d", directory, "--host", host, *mode, *kept, *options, seconds=seconds, until=until)


def test_raw_acknowledgements_that_are_wrong_or_double_are_counted(tmp_path: Path, mode: Mode) -> None:
    with Device((misdeeds.NAK, misdeeds.TWICE, misdeeds.STUTTER), quota=QUOTA) as device:
        result = run(device, tmp_path, mode, until=(3 * QUOTA, 0))
    assert device.is_done
    assert result.violations == {violations.ACK: 3 * QUOTA}
    assert result.errors == {violations.ACK: 3 * QUOTA}
    assert result.exit_code == 1


def test_silence_and_a_closed_connection_are_tried_again(tmp_path: Path, mode: Mode) -> None:
    with Device((misdeeds.SILENT, misdeeds.DISCONNECT, misdeeds.HALF), quota=2) as device:
        result = run(device, tmp_path, mode, seconds=8)
    assert device.is_done
    assert result.errors == {}, "the second attempt was answered"
    assert result.exit_code == 0


def test_without_a_second_attempt_they_are_failures_by_name(tmp_path: Path, mode: Mode) -> None:
    with Device((misdeeds.SILENT, misdeeds.DISCONNECT, misdeeds.HALF), quota=2) as device:
        result = run(device, tmp_path, mode, "--attempts", "1", until=(0, 6))
    assert device.is_done
    assert result.errors == {
        "missing reply: nothing came within the timeout": 2,
        "connection closed by server": 2,
        "connection closed inside a reply": 2,
    }


def test_framed_acknowledgements_of_other_packets_are_counted(tmp_path: Path, mode: Mode) -> None:
    kinds = (misdeeds.NEVER_SENT, misdeeds.ANOTHERS, misdeeds.TWICE)
    with FramedDevice(kinds, quota=QUOTA) as device:
        result = run(device, tmp_path, mode, *REUSE, "--depth", "4", until=(3 * QUOTA, 0))
    assert device.is_done
    expected = {violations.ACK: QUOTA, violations.CROSSED: QUOTA, violations.DUPLICATE: QUOTA}
    assert result.violations == expected
    assert result.errors == expected


def test_honest_devices_give_no_failure(tmp_path: Path, mode: Mode) -> None:
    for number, (device_class, options) in enumerate([(Device, ()), (FramedDevice, (*REUSE, "--depth", "8"))]):
        with device_class() as device:
            result = run(device, tmp_path / str(number), mode, *options, seconds=2)
        assert result.errors == {}
        assert result.violations == {}
        assert result.requests("toggle") > 200
