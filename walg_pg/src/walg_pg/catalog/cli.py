"""Commands of `walg_pg.catalog`."""

from __future__ import annotations

from typing import Annotated

import typer
from walg_core.context import Context

Pretty = Annotated[bool, typer.Option("--pretty", help="a table with borders; with --json: indented")]
Json = Annotated[bool, typer.Option("--json", help="JSON")]
Detail = Annotated[bool, typer.Option("--detail", help="everything that the metadata tells")]
TargetStorage = Annotated[str, typer.Option(help="the storage to look at (default: all)")]


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
    app.command("backup-list")(backup_list)


def show_list(context: Context, folder: str, *, pretty: bool, json: bool, detail: bool, target: str) -> None:
    """Print the backups of a folder in the form asked for."""
    from walg_core.observe import log

    from walg_pg.catalog import listing

    storages = context.read_storages(target)
    found = listing.rows(storages, folder, detail=detail)
    if json:
        typer.echo(listing.as_json(found, pretty=pretty))
        return
    if not found:
        log.info("No backups found")
        return
    typer.echo(listing.as_table(found, pretty=pretty, detail=detail), nl=False)


def backup_list(
    ctx: typer.Context,
    pretty: Pretty = False,
    json: Json = False,
    detail: Detail = False,
    target_storage: TargetStorage = "",
) -> None:
    """List the base backups, oldest first."""
    from walg_pg.catalog.backups import BASEBACKUPS

    show_list(ctx.obj, BASEBACKUPS, pretty=pretty, json=json, detail=detail, target=target_storage)
