"""`swarmproof zoo` and `swarmproof zoo run`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="zoo",
    help="Planted bugs: does the judge see each of them, and leave the healthy ones alone?",
    invoke_without_command=True,
)

DEFAULT_SEEDS = 20
DEFAULT_HEALTHY_RUNS = 100
OUT = Path("runs") / "zoo"


@app.callback()
def list_exhibits(context: typer.Context) -> None:
    """List the planted bugs and what must be said of each.

    Example: `swarmproof zoo`
    """
    if context.invoked_subcommand is None:
        from swarmproof.console import Printer
        from swarmproof.zoo.table import listing

        Printer().table(listing())


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Bugs; by default all.")] = None,
    *,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each bug and of each healthy twin.")] = (
        DEFAULT_SEEDS
    ),
    first_seed: Annotated[int, typer.Option(min=1, help="Where the seeds begin.")] = 1,
    twins: Annotated[bool, typer.Option("--twins/--no-twins", help="Also run the healthy twins.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Keep every run directory, not only the surprising ones.")] = (
        False
    ),
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the table there.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where run directories are made.")] = OUT,
) -> None:
    """Run each bug's scenario and its healthy twin over seeds.

    Exit code 0 when every bug was caught in at least 95 % of its runs and no healthy twin was flagged, else 1.

    Example: `swarmproof zoo run split-brain applied-twice --seeds 5`
    """
    from swarmproof.console import Printer
    from swarmproof.zoo import table
    from swarmproof.zoo.run import chosen, run_zoo

    printer = Printer()
    exhibits = chosen(names or [])
    out.mkdir(parents=True, exist_ok=True)
    numbers = range(first_seed, first_seed + seeds)
    rows = run_zoo(exhibits, numbers, out, printer.result, keep=keep, twins=twins)
    printer.result("")
    printer.table(table.results(rows))
    if markdown is not None:
        markdown.write_text(table.markdown(rows), "utf-8")
    raise typer.Exit(0 if all(row.holds for row in rows) else 1)


@app.command()
def healthy(
    *,
    runs: Annotated[int, typer.Option(min=0, max=1000, help="Runs of the own cluster.")] = DEFAULT_HEALTHY_RUNS,
    etcd_runs: Annotated[int, typer.Option(min=0, max=1000, help="Runs of etcd, which must be installed.")] = 0,
    first_seed: Annotated[int, typer.Option(min=1, help="Where the seeds begin.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Keep every run directory, not only the surprising ones.")] = (
        False
    ),
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where run directories are made.")] = OUT,
) -> None:
    """Kill the leader of stores without a bug, twice in each run, and count the false alarms.

    Exit code 0 when every run came to a verdict and none was called invalid, else 1.

    Example: `swarmproof zoo healthy --runs 70 --etcd-runs 30`
    """
    import json

    from swarmproof.console import Printer
    from swarmproof.zoo import table
    from swarmproof.zoo.catalogue import HEALTHY
    from swarmproof.zoo.healthy import run_healthy

    printer = Printer()
    out.mkdir(parents=True, exist_ok=True)
    tallies = []
    for store, count in (("raft", runs), ("etcd", etcd_runs)):
        if count:
            seeds = range(first_seed, first_seed + count)
            tallies.append(run_healthy(HEALTHY[store], seeds, out, printer.result, keep=keep))
            report = json.dumps([tally.to_json() for tally in tallies], indent=1)
            (out / "healthy.json").write_text(report + "\n", "utf-8")
    printer.result("")
    printer.table(table.healthy(tallies))
    raise typer.Exit(1 if any(tally.false_alarms or tally.failed for tally in tallies) else 0)


@app.command()
def plan(
    name: Annotated[str, typer.Argument(help="A bug.")],
    seed: Annotated[int, typer.Option(min=1, help="Moves the faults in time.")] = 1,
    twin: Annotated[bool, typer.Option("--twin", help="The plan of its healthy twin.")] = False,
) -> None:
    """Print the plan of one bug, to run it by hand: SWARMPROOF_ZOO=1 swarmproof run FILE.

    Example: `swarmproof zoo plan split-brain > split-brain.toml`
    """
    from swarmproof.zoo.run import chosen

    (exhibit,) = chosen([name])
    typer.echo(exhibit.twin_plan_of.plan(seed) if twin else exhibit.scenario.plan(seed, exhibit.bug), nl=False)
