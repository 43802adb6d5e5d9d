"""`wal-g plugins`: what is installed, from which distribution, and what cannot be used and why."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from walg_core.cli.session import Session


def plugins(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Show the installed plugins, and why one is not used.

    \b
    Examples:
      wal-g plugins
      WALG_DISABLED_PLUGINS=walg-storage-s3 wal-g plugins --json
    """
    session: Session = ctx.obj
    rows = [
        {
            "kind": plugin.group.removeprefix("walg."),
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "target": plugin.target,
            "problem": plugin.problem,
        }
        for plugin in session.catalog.plugins
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = [("KIND", "NAME", "DISTRIBUTION", "VERSION", "STATE")]
    table += [
        (str(row["kind"]), str(row["name"]), str(row["distribution"]), str(row["version"]), str(row["problem"] or "ok"))
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    for line in table:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(line, [*widths, 0], strict=True)).rstrip())
