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
    target_time: Annotated[str, typer.Option(help="recover to this time (UTC unless it names a zone)")] = "",
    target_lsn: Annotated[str, typer.Option(help="recover to this position, X/Y")] = "",
    target_name: Annotated[str, typer.Option(help="recover to this restore point")] = "",
    target_xid: Annotated[str, typer.Option(help="recover to this transaction")] = "",
    target_timeline: Annotated[str, typer.Option(help="recover along this timeline: a number, latest, current")] = "",
    target_action: Annotated[str, typer.Option(help="then: pause, promote or shutdown")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan, write nothing")] = False,
    json: Annotated[bool, typer.Option("--json", help="the plan as JSON")] = False,
) -> None:
    """Restore a base backup into a directory.

    With a --target option the newest backup that reaches it is taken, and the recovery settings are written.
    """
    from walg_pg.restore.command import Options, fetch, prepare
    from walg_pg.restore.recovery import Target

    context: Context = ctx.obj
    options = Options(
        destination=destination,
        name=name,
        mask=mask,
        restore_spec=restore_spec,
        reverse_unpack=reverse_unpack,
        skip_redundant_tars=skip_redundant_tars,
        target_user_data=target_user_data,
        restore_only=restore_only,
        target_storage=target_storage,
        target=Target(target_time, target_lsn, target_name, target_xid, target_timeline, target_action),
        config_file=context.config.file_name,
    )
    if not dry_run:
        fetch(context, options)
        return
    from walg_core.backups.gojson import dumps

    from walg_pg.restore.preview import as_text, report

    found = report(context, prepare(context, options))
    typer.echo(dumps(found, indent=4).decode() if json else as_text(found))
