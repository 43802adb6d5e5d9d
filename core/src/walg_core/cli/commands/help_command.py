"""`wal-g help [COMMAND...]`."""

from __future__ import annotations

from typing import Annotated

import typer

from walg_core.cli.session import Session


def help_(ctx: typer.Context, command: Annotated[list[str] | None, typer.Argument(help="the command")] = None) -> None:
    """Show the help of a command.

    \b
    Example:
      wal-g help config show
    """
    from walg_core.cli.main import run

    session: Session = ctx.obj
    root = ctx.find_root()
    known = {*getattr(root.command, "commands", ()), *session.catalog.engines}
    if command and command[0] not in known:
        # No failure in the original either, and all of it on stderr.
        typer.echo(f"unknown help topic: {' '.join(command)}\n\n{root.get_help()}", err=True)
        return
    raise typer.Exit(run([*(command or []), "--help"], session.engine if session.shape == "own" else None))
