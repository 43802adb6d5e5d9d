"""Commands of the binary logs (spec/mysql.md 1, 7)."""

from __future__ import annotations

from typing import Annotated

import typer
from walg_core.observe import log
from walg_core.streams.cli import Json, Pretty

Since = Annotated[str, typer.Option(help="the backup to begin with: a name or LATEST")]
Until = Annotated[str, typer.Option(help="a time, RFC 3339; default: now")]
Uploaded = Annotated[str, typer.Option(help="only binlogs uploaded until this time, RFC 3339")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the engine's application."""
    for add in (_add_push, _add_fetch, _add_server, _add_list, _add_restore):
        add(app)


def _add_push(app: typer.Typer) -> None:
    @app.command("binlog-push")
    def binlog_push(
        ctx: typer.Context,
        until: Annotated[str, typer.Option(help="stop before this binlog, as mysql-bin.000009")] = "",
    ) -> None:
        """Archive the server's complete binary logs.

        Those that are archived already are left out.

        Example: wal-g mysql binlog-push
        """
        from walg_mysql.journal.push import push

        push(ctx.obj, until)


def _add_fetch(app: typer.Typer) -> None:
    @app.command("binlog-fetch")
    def binlog_fetch(
        ctx: typer.Context, since: Since = "LATEST", until: Until = "", until_binlog_last_modified_time: Uploaded = ""
    ) -> None:
        """Download the binary logs from a backup on.

        They go into WALG_MYSQL_BINLOG_DST, their order into binlogs_order there.

        Example: wal-g mysql binlog-fetch --since LATEST --until 2024-01-02T15:04:05Z
        """
        from walg_mysql.journal import fetch, ranges

        storage = ctx.obj.read_storage()
        fetch.fetch(ctx.obj, storage, ranges.of_flags(storage, since, until, until_binlog_last_modified_time))

    @app.command("binlog-replay")
    def binlog_replay(
        ctx: typer.Context, since: Since = "LATEST", until: Until = "", until_binlog_last_modified_time: Uploaded = ""
    ) -> None:
        """Replay the binary logs from a backup on, in order.

        WALG_MYSQL_BINLOG_REPLAY_COMMAND is run for each.

        Example: wal-g mysql binlog-replay --since LATEST --until 2024-01-02T15:04:05Z
        """
        from walg_mysql.journal import fetch, ranges

        storage = ctx.obj.read_storage()
        fetch.replay(ctx.obj, storage, ranges.of_flags(storage, since, until, until_binlog_last_modified_time))


def _add_server(app: typer.Typer) -> None:
    @app.command("binlog-server")
    def binlog_server(
        ctx: typer.Context, since: Since = "LATEST", until: Until = "", until_binlog_last_modified_time: Uploaded = ""
    ) -> None:
        """Serve the binary logs from a backup on to a replica.

        It ends when the replica has everything up to a time.

        Example: wal-g mysql binlog-server --since LATEST --until 2024-01-02T15:04:05Z
        """
        from walg_mysql.binlogserver.serve import BinlogServer
        from walg_mysql.journal import ranges

        storage = ctx.obj.read_storage()
        chosen = ranges.of_flags(storage, since, until, until_binlog_last_modified_time)
        BinlogServer(ctx.obj, storage, chosen).run()


def _add_list(app: typer.Typer) -> None:
    @app.command("binlog-list")
    def binlog_list(
        ctx: typer.Context,
        since: Annotated[str, typer.Option(help="LATEST, a duration as 2h, or a time, RFC 3339")] = "",
        until: Annotated[str, typer.Option(help="LATEST, a duration as 2h, or a time, RFC 3339")] = "",
        pretty: Pretty = False,
        json: Json = False,
    ) -> None:
        """List the archived binary logs in order of replay.

        Example: wal-g mysql binlog-list --since LATEST
        """
        from walg_mysql.journal import listing

        found = listing.between(ctx.obj.read_storage(), since, until)
        if not found:
            log.info("No binlogs found")
        elif json:
            typer.echo(listing.as_json(found, pretty=pretty))
        else:
            typer.echo(listing.as_table(found, pretty=pretty), nl=False)

    @app.command("binlog-find")
    def binlog_find(
        ctx: typer.Context,
        gtid: Annotated[
            str, typer.Option("--gtid", "-g", help="a GTID set; default: what the server has executed")
        ] = "",
    ) -> None:
        """Find the binary log that begins within a GTID set.

        The newest archived one is printed.

        Example: wal-g mysql binlog-find --gtid 0-1-1234
        """
        from walg_mysql.journal import listing, positions
        from walg_mysql.server import Server

        if gtid:
            wanted = listing.parse_gtids(gtid)
        else:
            with Server.from_config(ctx.obj.config) as server:
                wanted = server.executed_gtids()
        name = positions.binlog_before(ctx.obj, ctx.obj.read_storage(), wanted)
        if name:
            log.info(f"Binlog found: {name}")
            typer.echo(name)


def _add_restore(app: typer.Typer) -> None:
    @app.command("restore")
    def restore(
        ctx: typer.Context,
        name: Annotated[str, typer.Argument(metavar="NAME", help="the backup; default: the right one")] = "",
        target_time: Annotated[str, typer.Option(help="restore what was committed before this time, RFC 3339")] = "",
        target_gtid: Annotated[str, typer.Option(help="restore up to and with this transaction")] = "",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="only print the plan")] = False,
        use_xbtool_extract: Annotated[
            bool, typer.Option("--use-xbtool-extract", help="unpack in process into WALG_MYSQL_DATA_DIR")
        ] = False,
        inplace: Annotated[bool, typer.Option("--inplace", help="with it: apply increments' pages directly")] = False,
    ) -> None:
        """Recover to a time or a transaction.

        The right backup is fetched and prepared, the server started, binary logs are replayed.

        Example: wal-g mysql restore --target-time 2024-01-02T15:04:05Z --dry-run
        """
        from walg_core.errors import UsageError

        from walg_mysql.journal import listing, plan, ranges, restore
        from walg_mysql.restore.fetch import Options

        if target_time and target_gtid:
            raise UsageError("--target-time and --target-gtid exclude each other")
        target = plan.Target(
            ranges.parse_time(target_time, "--target-time") if target_time else None,
            listing.parse_gtid(target_gtid, "--target-gtid") if target_gtid else None,
        )
        storage = ctx.obj.read_storage()
        made = plan.make(ctx.obj, storage, target, name)
        if dry_run:
            typer.echo(made.text(), nl=False)
            return
        restore.restore(ctx.obj, storage, made, Options(extract=use_xbtool_extract, inplace=inplace))
