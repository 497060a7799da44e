"""`swarmproof raft ...`: what a person wants to know of a Raft node. The nodes' own program answers, as a process:
this side never imports the servers."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="raft", help="Look into a Raft node's data directory.", no_args_is_help=True)


@app.callback()
def raft() -> None:
    """Look into a Raft node's data directory."""


@app.command()
def inspect(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The node's data directory.")],
    entries: Annotated[int, typer.Option("--entries", metavar="N", help="Show the last N entries.")] = 10,
    keys: Annotated[bool, typer.Option("--keys", help="Show every key, as if all entries were committed.")] = False,
) -> None:
    """Print a node's log and snapshot for people. Nothing is changed; the node may be running.

    Example: `swarmproof raft inspect runs/latest/nodes/n1/data`
    """
    command = [sys.executable, "-m", "servers.raft.inspect", str(directory), "--entries", str(entries)]
    raise typer.Exit(subprocess.run([*command, *(["--keys"] if keys else [])], check=False).returncode)
