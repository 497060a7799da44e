"""The commands that talk to a running supervisor: status, fault, heal, down."""

import os
import time
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.text import Text

from swarmproof.console import Printer, targets_table
from swarmproof.control import ControlError, Reply, ask, find_run
from swarmproof.ending import EXIT_UNKNOWN, EXIT_VALID

REFRESH_S = 1.0
STOPPED_WITHIN_S = 60.0


def show_status(path: Path | None, root: Path, *, watch: bool, as_json: bool) -> None:
    """Print the status once, or again and again until Ctrl-C. Errors: ControlError."""
    run = find_run(path, root)
    printer = Printer()
    reply = ask(run, {"command": "status"})
    if as_json:
        printer.out.print_json(data=reply)
        return
    if not watch:
        printer.out.print(_view(reply))
        return
    with Live(_view(reply), console=printer.out, auto_refresh=False) as live:
        while True:
            time.sleep(REFRESH_S)
            try:
                live.update(_view(ask(run, {"command": "status"})), refresh=True)
            except ControlError:
                return  # the supervisor has ended, and so has the watch


def send_fault(path: Path | None, root: Path, kind: str, target: str, heal_after: str | None) -> int:
    """Strike now; 0 when the effect was seen, 2 when it was not. Errors: ControlError."""
    request = {"command": "fault", "kind": kind, "target": target, "heal_after": heal_after}
    reply = ask(find_run(path, root), request)
    printer = Printer()
    if reply["took_effect"]:
        printer.result(f"{kind} {reply['chosen']}: {reply['observed']} ({reply['why']})")
        return EXIT_VALID
    printer.error(f"{kind} {target} did not take effect: {reply['problem']}")
    return EXIT_UNKNOWN


def send_heal(path: Path | None, root: Path, name: str | None) -> None:
    """Heal and say what was healed. Errors: ControlError."""
    reply = ask(find_run(path, root), {"command": "heal", "name": name})
    Printer().result(f"healed: {', '.join(reply['healed'])}" if reply["healed"] else "there was nothing to heal")


def send_down(path: Path | None, root: Path) -> None:
    """Stop the supervisor and wait until it is gone. Errors: ControlError."""
    run = find_run(path, root)
    pid = int(ask(run, {"command": "down"})["pid"])
    deadline = time.monotonic() + STOPPED_WITHIN_S
    while _runs(pid):
        if time.monotonic() > deadline:
            raise ControlError(f"the supervisor (pid {pid}) still runs after {STOPPED_WITHIN_S:g} s; see {run.path}")
        time.sleep(0.02)
    Printer().result(f"stopped {run.path}")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:  # a zombie that nobody reaps has ended all the same
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def _view(reply: Reply) -> Group:
    lines: list[Text] = [Text(f"{fault['kind']} {fault['chosen']}: {fault['observed']}") for fault in reply["faults"]]
    progress = reply.get("progress") or {}
    if progress:
        lines.append(
            Text(
                f"load: {progress.get('elapsed_s', 0):.0f} s, {progress.get('rate', 0):.0f}/s, "
                f"{progress.get('failed', 0)} failed, {progress.get('unknown', 0)} unknown"
            )
        )
    return Group(Text(f"{reply['run']} (pid {reply['pid']})"), targets_table(reply["targets"]), *lines)
