"""Commands of `walg_pg.restore`."""

from __future__ import annotations

from typing import Annotated

import typer
from walg_core.context import Context


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
    app.command("backup-fetch")(backup_fetch)


def backup_fetch(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="DIRECTORY", help="where to restore; missing or empty")],
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="a backup's name or LATEST")] = "",
    mask: Annotated[str, typer.Option(help="restore only files that match this shell pattern")] = "",
    restore_spec: Annotated[str, typer.Option(help="JSON file that says where tablespaces go")] = "",
    reverse_unpack: Annotated[bool, typer.Option("--reverse-unpack", help="accepted; the result is the same")] = False,
    skip_redundant_tars: Annotated[
        bool, typer.Option("--skip-redundant-tars", help="do not read tars without wanted files")
    ] = False,
    target_user_data: Annotated[str, typer.Option(help="the backup that has this user data (JSON)")] = "",
    restore_only: Annotated[
        str, typer.Option(help="databases and tables to restore: db, db/table, db/schema.table")
    ] = "",
    target_storage: Annotated[str, typer.Option(help="the storage to read from")] = "",
) -> None:
    """Restore a base backup into a directory."""
    from walg_pg.restore.command import Options, fetch

    context: Context = ctx.obj
    fetch(
        context,
        Options(
            destination=destination,
            name=name,
            mask=mask,
            restore_spec=restore_spec,
            reverse_unpack=reverse_unpack,
            skip_redundant_tars=skip_redundant_tars,
            target_user_data=target_user_data,
            restore_only=restore_only,
            target_storage=target_storage,
        ),
    )
