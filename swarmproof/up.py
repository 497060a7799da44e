"""`swarmproof up`: start targets, show their addresses, stay until Ctrl-C, SIGTERM or `swarmproof down`."""

from collections.abc import Sequence
from pathlib import Path

from records.run_directory import RunDirectory
from swarmproof.console import Printer, targets_table
from swarmproof.ending import EXIT_VALID, Terminated, undisturbed
from swarmproof.supervisor import Supervisor
from swarmproof.targets.building import EVERYTHING, table_for

LOOK_AT_SIGNALS_S = 1.0


def up(words: Sequence[str], root: Path, *, quiet: bool = False, links: bool = False) -> int:
    """Start `words` (all reference targets when empty) and stay; the exit code.

    `links`: their connections go through links that faults can change. Errors: TargetError, PlanError."""
    printer = Printer(quiet=quiet)
    tables = [table_for(word).model_copy(update={"links": links}) for word in words or EVERYTHING]
    run = RunDirectory.create(root, "up")
    supervisor = Supervisor(run, tables, seed=1, say=printer.say)
    try:
        supervisor.start()
        printer.table(targets_table([row._asdict() for target in supervisor.targets for row in target.rows()]))
        printer.say(f"logs in {run.nodes_dir}; stop with Ctrl-C or `swarmproof down`")
        while not supervisor.ended.wait(LOOK_AT_SIGNALS_S):
            pass
    except (KeyboardInterrupt, Terminated):
        pass  # being told to stop is how this command ends well
    finally:
        with undisturbed():
            printer.say("stopping ...")
            supervisor.close()
    printer.say("all stopped")
    return EXIT_VALID
