"""The Redis application (spec/redis.md 1), with the deletion forms of every stream engine beside the original's."""

from typing import Annotated

import typer
from walg_core.context import Context
from walg_core.streams import engine as work
from walg_core.streams.cli import Name, add_copy, add_list, add_mark
from walg_core.streams.delete_cli import Confirm, add_delete
from walg_core.streams.engine import StreamEngine

from walg_redis.form import FORM
from walg_redis.sentinel import check_type

ENGINE = StreamEngine(form=FORM, details="walg_redis.catalog:detailed_list")

Type = Annotated[str, typer.Option("--type", "-t", help="rdb, aof, rdb_ts, aof_ts or ts")]
TsBackup = Annotated[str, typer.Option(help="directory of the frozen tiered-storage tree")]

app = typer.Typer(name="redis", no_args_is_help=True, help="Archive and restore Redis and Valkey.")
add_copy(app, ENGINE)
add_list(app, ENGINE)
add_mark(app, ENGINE)


def _policy(
    ctx: typer.Context,
    confirm: Confirm = False,
    purge_garbage: Annotated[bool, typer.Option("--purge-garbage", help="what failed backups left as well")] = False,
    retain_after: Annotated[str, typer.Option(help="keep backups begun after this time (RFC 3339)")] = "",
    retain_count: Annotated[int | None, typer.Option(help="keep so many of the newest")] = None,
) -> None:
    """Delete backups by a policy, or with one of the commands below. Without --confirm nothing is deleted."""
    if ctx.invoked_subcommand is None:
        from walg_redis import catalog

        catalog.purge(ctx.obj, count=retain_count, after=retain_after, garbage=purge_garbage, confirm=confirm)


add_delete(app, ENGINE, callback=_policy)


@app.command("backup-push")
def backup_push(
    ctx: typer.Context,
    type_: Type = "rdb",
    permanent: Annotated[bool, typer.Option("--permanent", "-p", help="never delete it by age or count")] = False,
    sharded: Annotated[bool, typer.Option("--sharded", "-s", help="store the slots of the cluster as well")] = False,
    ts_backup: TsBackup = "",
    ts_backup_id: Annotated[str, typer.Option(help="id of that tree, stored with the backup")] = "",
    add_user_data: Annotated[str, typer.Option(help="JSON that is stored with the backup")] = "",
) -> None:
    """Make a backup.

    Without WALG_STREAM_CREATE_COMMAND an rdb comes over the replication protocol.

    Example: wal-g redis backup-push --type aof
    """
    from walg_redis.backup.push import Options, push

    context: Context = ctx.obj
    marks = work.marks_from(context, permanent, add_user_data)
    push(context, Options(check_type(type_), marks, sharded, ts_backup, ts_backup_id))


@app.command("backup-fetch")
def backup_fetch(
    ctx: typer.Context,
    name: Name,
    type_: Type = "rdb",
    skip_clean: Annotated[bool, typer.Option("--skip-clean", "-s", help="leave other old data in place")] = False,
    skip_backup_download: Annotated[bool, typer.Option("--skip-backup-download", help="aof: only check")] = False,
    skip_checks: Annotated[bool, typer.Option("--skip-checks", help="check neither version, server nor data")] = False,
    redis_version: Annotated[str, typer.Option(help="version of the server to restore into (aof)")] = "",
    ts_backup: TsBackup = "",
    keep_old: Annotated[bool, typer.Option("--keep-old", help="keep the replaced data beside the new")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace a --ts-backup directory that is not empty")] = False,
    with_aof: Annotated[bool, typer.Option("--with-aof", help="rdb: for a server with appendonly yes")] = False,
) -> None:
    """Restore a backup; the server must be stopped.

    It is restored beside the old data, checked, then swapped.

    Example: wal-g redis backup-fetch LATEST --type aof --redis-version 7.0.15
    """
    from walg_redis.restore.fetch import Options, fetch

    fetch(
        ctx.obj,
        Options(
            name,
            check_type(type_),
            skip_clean,
            skip_backup_download,
            skip_checks,
            redis_version,
            ts_backup,
            keep_old,
            force,
            with_aof,
        ),
    )


@app.command("backup-info")
def backup_info(
    ctx: typer.Context, name: Name, tag: Annotated[str, typer.Option(help="one field only, or Slots")] = ""
) -> None:
    """Print what is known about a backup.

    Example: wal-g redis backup-info LATEST
    """
    from walg_redis import catalog

    typer.echo(catalog.info(ctx.obj, name, tag), nl=False)


@app.command("backup-delete")
def backup_delete(
    ctx: typer.Context,
    name: Name,
    confirm: Confirm = False,
    strict: Annotated[bool, typer.Option("--strict", help="a backup that does not exist is an error")] = False,
) -> None:
    """Delete one backup.

    Example: wal-g redis backup-delete stream_20261122T120000Z --confirm
    """
    from walg_redis import catalog

    catalog.delete_one(ctx.obj, name, confirm=confirm, strict=strict)
