"""`swarmproof new protocol`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="new", help="Write files to begin with: a protocol of your own.", no_args_is_help=True)


@app.callback()
def new() -> None:
    """Write files to begin with: a protocol of your own."""


@app.command()
def protocol(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and _, such as lines or device_link.")
    ],
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", metavar="DIR", help="Where; by default a new folder NAME.")
    ] = None,
) -> None:
    """Write a codec, a user, a scenario, a small server, a plan and their tests: a working line protocol to change.

    Example: `swarmproof new protocol lines`
    """
    import shlex

    from swarmproof.new.protocol import write_protocol

    folder = directory if directory is not None else Path(name)
    for path, what in write_protocol(name, folder):
        typer.echo(f"{path!s:<{len(str(folder)) + len(name) + 20}}  {what}")
    typer.echo(
        f"\nnow: cd {shlex.quote(str(folder))} && swarmproof run plan.toml\nthe tests: pip install pytest && pytest"
    )
