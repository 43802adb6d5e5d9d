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
    for add in (_add_push, _add_fetch, _add_list):
        add(app)


def _add_push(app: typer.Typer) -> None:
    @app.command("binlog-push")
    def binlog_push(
        ctx: typer.Context,
        until: Annotated[str, typer.Option(help="stop before this binlog, as mysql-bin.000009")] = "",
    ) -> None:
        """Archive the server's complete binary logs that are not archived yet.

        Example: wal-g mysql binlog-push
        """
        from walg_mysql.journal.push import push

        push(ctx.obj, until)


def _add_fetch(app: typer.Typer) -> None:
    @app.command("binlog-fetch")
    def binlog_fetch(
        ctx: typer.Context, since: Since = "LATEST", until: Until = "", until_binlog_last_modified_time: Uploaded = ""
    ) -> None:
        """Download the binary logs from a backup on into WALG_MYSQL_BINLOG_DST, with their order in binlogs_order.

        Example: wal-g mysql binlog-fetch --since LATEST --until 2024-01-02T15:04:05Z
        """
        from walg_mysql.journal import fetch, ranges

        storage = ctx.obj.read_storage()
        fetch.fetch(ctx.obj, storage, ranges.of_flags(storage, since, until, until_binlog_last_modified_time))

    @app.command("binlog-replay")
    def binlog_replay(
        ctx: typer.Context, since: Since = "LATEST", until: Until = "", until_binlog_last_modified_time: Uploaded = ""
    ) -> None:
        """Run WALG_MYSQL_BINLOG_REPLAY_COMMAND for the binary logs from a backup on, in order.

        Example: wal-g mysql binlog-replay --since LATEST --until 2024-01-02T15:04:05Z
        """
        from walg_mysql.journal import fetch, ranges

        storage = ctx.obj.read_storage()
        fetch.replay(ctx.obj, storage, ranges.of_flags(storage, since, until, until_binlog_last_modified_time))


def _add_list(app: typer.Typer) -> None:
    @app.command("binlog-list")
    def binlog_list(
        ctx: typer.Context,
        since: Annotated[str, typer.Option(help="LATEST, a duration as 2h, or a time, RFC 3339")] = "",
        until: Annotated[str, typer.Option(help="LATEST, a duration as 2h, or a time, RFC 3339")] = "",
        pretty: Pretty = False,
        json: Json = False,
    ) -> None:
        """List the archived binary logs in the order of their replay.

        Example: wal-g mysql binlog-list --since LATEST
        """
        from walg_mysql.journal import listing

        found = listing.between(ctx.obj.read_storage(), since, until)
        if not found:
            log.info("No binlogs found")
        elif json:
            typer.echo(listing.as_json(found, pretty=pretty), nl=False)
        else:
            typer.echo(listing.as_table(found, pretty=pretty), nl=False)

    @app.command("binlog-find")
    def binlog_find(
        ctx: typer.Context,
        gtid: Annotated[
            str, typer.Option("--gtid", "-g", help="a GTID set; default: what the server has executed")
        ] = "",
    ) -> None:
        """Print the newest archived binary log that begins within a GTID set.

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
