"""Commands of `walg_pg.restore`."""

from __future__ import annotations

from typing import Annotated

import typer
from walg_core.context import Context


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
    app.command("backup-fetch")(backup_fetch)
    app.command("restore-test")(restore_test)
    app.command("catchup-push")(catchup_push)
    app.command("catchup-fetch")(catchup_fetch)


def backup_fetch(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="DIRECTORY", help="where to restore; missing or empty")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="a backup's name or LATEST")] = "",
    mask: Annotated[str, typer.Option(help="restore only files that match this shell pattern")] = "",
    restore_spec: Annotated[str, typer.Option(help="JSON file that says where tablespaces go")] = "",
    reverse_unpack: Annotated[bool, typer.Option("--reverse-unpack", help="accepted; the result is the same")] = False,
    skip_redundant_tars: Annotated[
        bool, typer.Option("--skip-redundant-tars", help="do not read tars without wanted files")
    ] = False,
    target_user_data: Annotated[str, typer.Option(help="the backup that has this user data (JSON)")] = "",
    restore_only: Annotated[
        list[str] | None,
        typer.Option(help="databases and tables to restore: db, db/table, db/schema.table; * is any text"),
    ] = None,
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

    Example: wal-g backup-fetch /restored LATEST --target-time '2026-11-22 12:00:00'
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
        restore_only=tuple(restore_only or ()),
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


def restore_test(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="a backup's name or LATEST")] = "LATEST",
    directory: Annotated[str, typer.Option(help="where to make the scratch directory")] = "",
    sql: Annotated[list[str] | None, typer.Option("--sql", help="a query that must return nothing false")] = None,
    database: Annotated[str, typer.Option(help="the database that the queries are asked in")] = "postgres",
    user: Annotated[str, typer.Option(help="a superuser of the cluster")] = "postgres",
    target_time: Annotated[str, typer.Option(help="recover to this time instead of the archive's end")] = "",
    target_lsn: Annotated[str, typer.Option(help="recover to this position")] = "",
    setting: Annotated[list[str] | None, typer.Option("--set", help="a server setting, name=value")] = None,
    timeout: Annotated[float, typer.Option(help="seconds that the recovery may take")] = 3600.0,
    keep: Annotated[bool, typer.Option("--keep", help="leave the restored cluster behind")] = False,
    json: Annotated[bool, typer.Option("--json", help="the report as JSON")] = False,
) -> None:
    """Restore a backup, start a server on it, and check it.

    All in a scratch directory and behind a private socket.

    Example: wal-g restore-test --database shop --sql 'select count(*) > 0 from orders'
    """
    from walg_core.backups.gojson import dumps
    from walg_core.errors import UsageError

    from walg_pg.restore.recovery import Target
    from walg_pg.restore.trial import Wishes, run

    settings = dict(each.partition("=")[::2] for each in setting or ())
    if not all(settings.values()):
        raise UsageError("--set expects name=value")
    wished = bool(target_time or target_lsn)
    target = Target(time=target_time, lsn=target_lsn, action="promote") if wished else Target()
    wishes = Wishes(name, directory, tuple(sql or ()), database, user, target, settings, timeout, keep)
    trial = run(ctx.obj, wishes)
    typer.echo(dumps(trial.as_json(), indent=4).decode() if json else trial.as_text())
    if not trial.ok:
        raise typer.Exit(1)


def catchup_push(
    ctx: typer.Context,
    pgdata: Annotated[str, typer.Argument(metavar="PGDATA", help="the primary's data directory")],
    from_lsn: Annotated[str, typer.Option(help="where the replica stands: X/Y, or a number")] = "0",
) -> None:
    """Store what a replica that fell behind needs.

    These are the pages changed since a position.

    Example: wal-g catchup-push /var/lib/postgresql/18/main --from-lsn 0/3000000
    """
    from walg_pg.backup.catchup import CatchupPush, position
    from walg_pg.backup.options import user_data_of

    context: Context = ctx.obj
    CatchupPush(context, pgdata, position(from_lsn), user_data_of(context, "")).run()


def catchup_fetch(
    ctx: typer.Context,
    pgdata: Annotated[str, typer.Argument(metavar="PGDATA", help="the data directory of the stopped replica")],
    name: Annotated[str, typer.Argument(help="a catchup backup's name or LATEST")],
    use_new_unwrap: Annotated[bool, typer.Option("--use-new-unwrap", help="accepted; the result is the same")] = False,
) -> None:
    """Bring a replica forward with a catchup backup.

    Example: wal-g catchup-fetch /var/lib/postgresql/18/main LATEST
    """
    del use_new_unwrap  # one way of unpacking does what both of the original's do
    from walg_pg.restore.catchup import catchup_fetch as fetch

    fetch(ctx.obj, pgdata, name)
