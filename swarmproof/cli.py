"""The command line. Each command is a thin door: parse, call, print, exit with the right code.

Mistakes of the user are one sentence on stderr and exit code 3; typer's own usage errors ("no such option") exit with 2
and begin with "Usage:". Modules are imported inside the commands: `--help` should not wait for numpy.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from swarmproof.ending import (
    EXIT_HARNESS,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_TERMINATED,
    Terminated,
    install_signal_handlers,
)
from swarmproof.new.commands import app as new_app
from swarmproof.raft_commands import app as raft_app
from swarmproof.zoo.commands import app as zoo_app

app = typer.Typer(
    name="swarmproof",
    help="Load that judges: drive a server or a replicated store, break it on schedule, and get a verdict.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(zoo_app)
app.add_typer(raft_app)
app.add_typer(new_app)

RUNS = Path("runs")
BAD_CLIENTS = "8"  # one of each kind in protocols.hostile

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and errors.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where run directories are made.")]
Run = Annotated[
    Path | None, typer.Option("--run", metavar="RUN_DIR", help="The run to talk to; by default the newest.")
]


class CodecName(StrEnum):
    """Envelope codecs, for --codec."""

    binary = "binary"
    msgpack = "msgpack"


def main() -> None:
    """The console script. Never a traceback for a user's mistake."""
    install_signal_handlers()
    from rich.console import Console

    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Terminated:
        sys.exit(EXIT_TERMINATED)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            sys.exit(EXIT_HARNESS)  # the reader of our output went away; typer says 1, which means invalid here
        raise
    except _mistakes() as error:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"error: {error}")
        sys.exit(EXIT_HARNESS)
    except OSError as error:  # a missing permission, a full disk: what and where, not how we came there
        place = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{place}", file=sys.stderr)
        sys.exit(EXIT_HARNESS)


def _mistakes() -> tuple[type[Exception], ...]:
    """The exceptions whose text is a sentence for the user."""
    from records.operations import HistoryError
    from records.run_directory import RunDirectoryError
    from swarmproof.control import ControlError
    from swarmproof.faults.proxy.toxics import ToxicMistake
    from swarmproof.faults.schedule import FaultMistake
    from swarmproof.new.protocol import NewFilesError
    from swarmproof.plan_errors import PlanError
    from swarmproof.targets.errors import TargetError
    from swarmproof.trend import TrendError

    return (
        ControlError,
        FaultMistake,
        HistoryError,
        NewFilesError,
        PlanError,
        RunDirectoryError,
        TargetError,
        ToxicMistake,
        TrendError,
    )


@app.command()
def up(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="envelope, f00d, websocket_echo, websocket_rpc, raft; default all."),
    ] = None,
    links: Annotated[
        bool, typer.Option("--links", help="Put links between all of them, for partitions, toxics and disconnects.")
    ] = False,
    out: Out = RUNS,
    quiet: Quiet = False,
) -> None:
    """Start targets, print a table of their addresses, and stay until Ctrl-C.

    `envelope:9000` sets the port, `raft:5` the number of nodes.

    Example: `swarmproof up envelope:9000 raft`
    """
    from swarmproof.up import up as run_up

    raise typer.Exit(run_up(targets or [], out, quiet=quiet, links=links))


@app.command()
def run(
    plan: Annotated[str, typer.Argument(help="A TOML file, or a built-in plan: see `swarmproof plans`.")],
    *,
    users: Annotated[int | None, typer.Option("--users", "-u", min=1, help="Users (connections).")] = None,
    spawn_rate: Annotated[
        float | None, typer.Option("--spawn-rate", "-r", min=0.001, help="Users started per second; default all.")
    ] = None,
    run_time: Annotated[str | None, typer.Option("--run-time", "-t", metavar="TIME", help="30s, 1m30s, 1h.")] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help='Open load: 2000/s, "0..5000 in 30s", "500 for 10s then 900".')
    ] = None,
    arrivals: Annotated[
        str | None, typer.Option(metavar="KIND", help="Open load: constant (default) or poisson arrivals.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Locust worker processes; 0 = one process.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is random.")] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="FAULT", help='As "kill leader @10s restart 5s"; repeatable.'),
    ] = None,
    thresholds: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold", metavar="LIMIT", help='As "p99{envelope echo}<5ms", "fail_ratio over 9s<5% abort".'
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="For the scenario: depth=16; repeatable."),
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Locust's web UI instead of headless.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and when.")] = False,
    out: Out = RUNS,
    quiet: Quiet = False,
) -> None:
    """Start the plan's targets, load them, break them on schedule, and judge what happened.

    Exit code: 0 valid, 1 invalid, 2 unknown, 3 the harness failed, 4 only a threshold was missed.

    Example: `swarmproof run raft-failover -u 50 -t 2m --fault "pause follower @30s for 3s"`
    """
    from swarmproof.plan import load_plan
    from swarmproof.plan_overrides import Overrides, override
    from swarmproof.run import RunRequest
    from swarmproof.run import run as run_plan

    name, checked, text = load_plan(plan)
    overrides = Overrides(users, spawn_rate, run_time, rate, workers, seed, faults, thresholds, options, arrivals)
    path = Path(plan)
    request = RunRequest(
        name,
        override(checked, overrides),
        text,
        out,
        beside=path.parent if path.is_file() else None,
        web=web,
        quiet=quiet,
        dry_run=dry_run,
    )
    raise typer.Exit(run_plan(request))


@app.command()
def plans() -> None:
    """List the built-in plans.

    Example: `swarmproof plans`
    """
    from swarmproof.plan import built_in_plans

    found = built_in_plans()
    width = max(map(len, found), default=0)
    for name, title in found.items():
        _say(f"{name:<{width}}  {title}")


@app.command()
def status(
    run: Run = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Show what the running supervisor sees: targets, pids, roles, terms, faults.

    Example: `swarmproof status --watch`
    """
    from swarmproof.remote import show_status

    show_status(run, RUNS, watch=watch, as_json=as_json)


@app.command()
def fault(
    kind: Annotated[str, typer.Argument(help="kill, term, pause, partition, link ...: see `swarmproof faults`.")],
    target: Annotated[
        list[str] | None,
        typer.Argument(help="leader, follower, node N, majority, all, or a server's name; then toxics and options."),
    ] = None,
    heal_after: Annotated[
        str | None,
        typer.Option("--restart", "--for", metavar="TIME", help="Heal after this long; without it, `heal` does."),
    ] = None,
    run: Run = None,
) -> None:
    """Strike a target of the running supervisor now.

    Example: `swarmproof fault kill leader --restart 5s`, `swarmproof fault link leader latency=50ms --for 10s`
    """
    from swarmproof.remote import send_fault

    raise typer.Exit(send_fault(run, RUNS, kind, " ".join(target or ["leader"]), heal_after))


@app.command()
def faults() -> None:
    """List the kinds of fault: what each does, to whom, and with which options.

    Example: `swarmproof faults`
    """
    from swarmproof.faults.catalogue import CATALOGUE
    from swarmproof.faults.proxy.toxics import TOXICS

    width = max(map(len, CATALOGUE))
    for name, kind in CATALOGUE.items():
        options = "".join(f" {option}={example}" for option, example in kind.options.items())
        whom = ", ".join(["node N" if word == "node" else word for word in kind.selectors])
        _say(f"{name:<{width}}  {kind.summary}\n{'':<{width}}  on {whom} or a name{options}")
    _say("toxics of `link`: " + ", ".join(example for _, example, _ in TOXICS.values()))


@app.command()
def heal(
    name: Annotated[str | None, typer.Argument(help="One process, such as n1; by default everything.")] = None,
    run: Run = None,
) -> None:
    """Heal the faults of the running supervisor: restart what was killed, continue what was paused.

    Example: `swarmproof heal n1`
    """
    from swarmproof.remote import send_heal

    send_heal(run, RUNS, name)


@app.command()
def proxy(
    *,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where clients connect; port 0 picks one.")],
    upstream: Annotated[str, typer.Option(metavar="HOST:PORT", help="The server behind it.")],
    toxics: Annotated[
        list[str] | None,
        typer.Option(
            "--toxic",
            metavar="[up:|down:|both:]TOXIC",
            help="latency=50ms±10ms, jitter, bandwidth=100KB/s, drop, stall, timeout=5s, reset, slicer=64, corrupt=1%, "
            "limit_data=10KB; on framed streams duplicate=5%, reorder, swap. Repeatable.",
        ),
    ] = None,
) -> None:
    """One link with toxics, by itself: point a client at it instead of at the server. Ctrl-C ends it.

    A toxic works on replies (`down:`) when nothing is said; drop, stall, timeout and reset on the whole connection.

    Example: `swarmproof proxy --listen 127.0.0.1:9100 --upstream 127.0.0.1:9000 --toxic latency=50ms±10ms`
    """
    from swarmproof.faults.proxy.alone import serve_alone

    raise typer.Exit(serve_alone(listen, upstream, toxics or [], _say))


@app.command()
def down(run: Run = None) -> None:
    """Stop the running supervisor and everything that it started.

    Example: `swarmproof down`
    """
    from swarmproof.remote import send_down

    send_down(run, RUNS)


@app.command()
def check(
    path: Annotated[
        Path, typer.Argument(metavar="RUN_DIR_OR_JSONL", help="A run directory, or a history.", readable=False)
    ],
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON, as in verdict.json.")] = False,
) -> None:
    """Judge again, offline. Exit code: 0 valid, 1 invalid, 2 unknown, 4 only a threshold failed, 3 could not judge.

    Example: `swarmproof check runs/latest`, `swarmproof check history.jsonl --json`
    """
    from swarmproof.console import Printer
    from swarmproof.judging import check_path

    raise typer.Exit(check_path(path, Printer(quiet=quiet), as_json=as_json))


@app.command()
def report(
    run_dirs: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="A run directory, or several.", readable=False)
    ],
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Where the page of several runs goes; by default beside them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, write no page.")] = False,
) -> None:
    """Build report.html and junit.xml again from what a run left, and print its result; of several runs, the trend.

    Example: `swarmproof report runs/latest`, `swarmproof report runs/*-demo --html trend.html`
    """
    from swarmproof.console import Printer
    from swarmproof.several_runs import report_runs

    report_runs(run_dirs, Printer(), html=html, as_json=as_json)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run directory.", readable=False)],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one.", readable=False)],
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Two runs side by side: percentiles with ratios, recovery, verdicts, and what was different. Exit code 0.

    Example: `swarmproof compare runs/20260101-120000-demo runs/latest --html compare.html`
    """
    from swarmproof.console import Printer
    from swarmproof.several_runs import compare_runs

    compare_runs(run_a, run_b, Printer(), html=html, as_json=as_json)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run directory.", readable=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default RUN_DIR/history.jsonl; - is stdout."),
    ] = None,
) -> None:
    """Write the history of a run as JSON lines.

    Example: `swarmproof export runs/latest -o - | head`
    """
    from swarmproof.judging import export as export_history

    count, where = export_history(run_dir, output)
    if where is not None:
        _say(f"{count} operations in {where}")


@app.command()
def trend(
    reports: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Performance reports (JSON).")],
) -> None:
    """Compare performance reports of F00D runs, oldest first: samples, percentiles, how p95 changed.

    Example: `swarmproof trend test-reports/*.json`
    """
    from swarmproof.trend import trend as show_trend

    show_trend(reports, _say)


class _BadClientsMayLackANumber(typer.core.TyperCommand):
    """`--bad-clients` alone means one of each kind."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place, word in enumerate(args):
            following = args[place + 1 : place + 2]
            if word == "--bad-clients" and not (following and following[0].isdecimal()):
                args = [*args[: place + 1], BAD_CLIENTS, *args[place + 1 :]]
                break
        return super().parse_args(ctx, args)


@app.command(name="integration-test", cls=_BadClientsMayLackANumber)
def integration_test_command(
    *,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="An envelope server; without it one is started.")
    ] = None,
    host: Annotated[str, typer.Option(help="Its host.")] = "127.0.0.1",
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Clients at the same time.")] = 20,
    frames: Annotated[int, typer.Option(min=1, max=1_000_000, help="Envelopes per client.")] = 50,
    codec: Annotated[CodecName, typer.Option(help="How envelopes are written.")] = CodecName.binary,
    bad_clients: Annotated[
        int,
        typer.Option("--bad-clients", metavar="[N]", min=0, max=1000, help="Hostile clients beside them; [N] is 8."),
    ] = 0,
    idle_timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=3600, help="With --bad-clients: the server's idle timeout in seconds (30; own server: 2)."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.01, max=600, help="Seconds to wait for each reply.")] = 5.0,
) -> None:
    """Twenty good clients against any envelope server: every reply checked, PASS or FAIL per client.

    With --bad-clients, hostile ones attack meanwhile: `good: 20/20 pass, bad: 8/8 handled, server healthy`.

    Example: `swarmproof integration-test --port 9000 --clients 20 --frames 50 --bad-clients 40`
    """
    from swarmproof.acceptance.integration_test import integration_test

    passed = integration_test(
        port,
        host=host,
        clients=clients,
        frames=frames,
        bad_clients=bad_clients,
        idle_timeout_s=idle_timeout,
        codec=codec.value,
        timeout_s=timeout,
        say=_say,
    )
    raise typer.Exit(0 if passed else EXIT_INVALID)


@app.command(name="election-test")
def election_test_command(
    ports: Annotated[
        str | None, typer.Option(metavar="P,P,P", help="The nodes' ports; by default 9001-9003, or free ones.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the nodes' logs and data there.")] = None,
) -> None:
    """Three Raft nodes, a leader killed, a new one elected, and nothing lost: PASS or FAIL.

    Example: `swarmproof election-test`
    """
    from swarmproof.acceptance.election_test import election_test

    raise typer.Exit(0 if election_test(_write, ports=_ports(ports), directory=keep) else EXIT_INVALID)


def _ports(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 3 or not all(word.strip().isdecimal() and 0 < int(word) < 65536 for word in words):
        from swarmproof.targets.errors import TargetError

        raise TargetError(f"--ports {text} must be three ports, such as 9001,9002,9003")
    return [int(word) for word in words]


def _say(text: str) -> None:
    print(text, flush=True)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
