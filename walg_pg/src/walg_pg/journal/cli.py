"""Commands of `walg_pg.journal`."""

from typing import Annotated

import typer

from walg_pg.journal import cold

Target = Annotated[
    str, typer.Option("--target-storage", help='use only this storage; "default" is the primary', show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
    app.command("wal-push", help=PUSH)(wal_push)
    app.command("wal-push-ahead", hidden=True, help=PUSH_AHEAD)(wal_push_ahead)
    app.command("wal-fetch", help=FETCH)(wal_fetch)
    app.command("wal-prefetch", hidden=True, help=PREFETCH)(wal_prefetch)
    app.command("wal-show", help=SHOW)(wal_show)
    app.command("wal-verify", help=VERIFY)(wal_verify)
    app.command("wal-receive", help=RECEIVE)(wal_receive)
    app.command("wal-restore", help=RESTORE)(wal_restore)


PUSH = """Archive one WAL file, and those that wait behind it.

Example, in postgresql.conf: archive_command = 'wal-g wal-push %p'
"""
PUSH_AHEAD = """Archive what is ready after WAL_FILEPATH before its turn; wal-push starts this by itself in a burst.

Example: wal-g wal-push-ahead pg_wal/000000010000000000000003
"""
FETCH = """Fetch one WAL file from the archive.

Exit status 74 means that no storage has it; above 125, that the archive could not be read.

Example, in postgresql.conf: restore_command = 'wal-g wal-fetch %f %p'
"""
PREFETCH = """Fetch the segments after WAL_NAME for later wal-fetch calls, which start this by themselves.

Example: wal-g wal-prefetch 000000010000000000000003 pg_wal/RECOVERYXLOG
"""
SHOW = """Show timelines, their gaps and their backups.

Example: wal-g wal-show --detailed-json
"""
VERIFY = """Check that the archive holds what recovery needs.

CHECKS are any of: integrity (every segment back to the oldest backup is there), timeline (the archive is on the
cluster's timeline). Asks the server where it is, unless --timeline and --lsn say it.

Example: wal-g wal-verify integrity timeline --json
"""
RECEIVE = """Archive WAL from the server's replication stream.

It comes through the slot WALG_SLOTNAME.

Runs until it is stopped; a lost connection is opened again.

Example: WALG_SLOTNAME=archive wal-g wal-receive
"""
RESTORE = """Fetch the WAL that pg_rewind needs.

For two clusters that parted: TARGET_PGDATA, which is to be rewound, gets its own WAL since the last checkpoint that
both share, SOURCE_PGDATA its WAL since then.

Example: wal-g wal-restore /var/lib/postgresql/old-primary /var/lib/postgresql/new-primary
"""


def wal_push(ctx: typer.Context, wal_filepath: str, target_storage: Target = "") -> None:
    raise typer.Exit(cold.wal_push(ctx.obj, [wal_filepath], {"target-storage": target_storage}))


def wal_push_ahead(ctx: typer.Context, wal_filepath: str, target_storage: Target = "") -> None:
    raise typer.Exit(cold.wal_push_ahead(ctx.obj, [wal_filepath], {"target-storage": target_storage}))


def wal_fetch(ctx: typer.Context, wal_name: str, destination_filename: str, target_storage: Target = "") -> None:
    raise typer.Exit(cold.wal_fetch(ctx.obj, [wal_name, destination_filename], {"target-storage": target_storage}))


def wal_prefetch(
    ctx: typer.Context,
    wal_name: str,
    prefetch_location: str,
    follow: Annotated[bool, typer.Option("--follow", help="go on as long as PostgreSQL takes segments")] = False,
    target_storage: Target = "",
) -> None:
    options: dict[str, str | bool] = {"target-storage": target_storage, "follow": follow}
    raise typer.Exit(cold.wal_prefetch(ctx.obj, [wal_name, prefetch_location], options))


def wal_show(
    ctx: typer.Context,
    detailed_json: Annotated[bool, typer.Option("--detailed-json", help="print JSON")] = False,
    without_backups: Annotated[bool, typer.Option("--without-backups", help="do not look at the backups")] = False,
) -> None:
    from walg_pg.journal import show

    shown = show.report(ctx.obj, ctx.obj.primary_storage(), with_backups=not without_backups)
    if detailed_json:
        typer.echo(show.as_json(shown), nl=False)
    else:
        typer.echo(show.as_table(shown, with_backups=not without_backups), nl=False)


def wal_verify(
    ctx: typer.Context,
    checks: Annotated[list[str], typer.Argument(metavar="CHECKS...")],
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    timeline: Annotated[int | None, typer.Option(help="the cluster's timeline (with --lsn)", min=1)] = None,
    lsn: Annotated[str, typer.Option(help="the cluster's WAL position as X/Y (with --timeline)")] = "",
    backup_name: Annotated[str, typer.Option(help="go back only to this backup")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="exit with status 1 when a check fails")] = False,
) -> None:
    from walg_core.errors import UsageError

    from walg_pg.journal import verify

    unknown = [check for check in checks if check not in verify.CHECKS]
    if unknown:
        raise UsageError(f"unknown check {unknown[0]!r}: expected integrity or timeline")
    position = verify.position_of(ctx.obj, timeline, lsn)
    verifier = verify.Verifier(ctx.obj, ctx.obj.primary_storage(), position)
    integrity = verifier.integrity(backup_name) if "integrity" in checks else None
    on_timeline = verifier.timeline() if "timeline" in checks else None
    if json:
        typer.echo(verify.as_json(integrity, on_timeline), nl=False)
    else:
        typer.echo(verify.as_text(integrity, on_timeline), nl=False)
    if strict and verify.FAILURE in [check.status for check in (integrity, on_timeline) if check]:
        raise typer.Exit(1)


def wal_receive(ctx: typer.Context) -> None:
    import signal

    from walg_pg.journal.receive import Receiver

    receiver = Receiver(ctx.obj)
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def stop(received: int, _frame: object, before: object = before) -> None:
            """The first signal ends it in order, the next at once."""
            signal.signal(received, before)  # type: ignore[arg-type]
            receiver.stop()

        signal.signal(number, stop)
    receiver.run()


def wal_restore(ctx: typer.Context, target_pgdata: str, source_pgdata: str) -> None:
    from walg_pg.journal.restore import restore

    restore(ctx.obj, target_pgdata, source_pgdata)
