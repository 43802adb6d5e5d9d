"""Commands that make, show, restore and remove backups (spec/mysql.md 1)."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from walg_core.errors import UsageError
from walg_core.streams import engine as work
from walg_core.streams.cli import (
    Name,
    OptionalName,
    add_list,
    add_mark,
)
from walg_core.streams.delete_cli import UserData, add_delete
from walg_core.streams.engine import StreamEngine

from walg_mysql.deletion import BINLOG_SENTINEL, forget_journals
from walg_mysql.journal.archive import FOLDER
from walg_mysql.sentinel import FORM

ENGINE = StreamEngine(
    form=FORM,
    archives=(FOLDER, BINLOG_SENTINEL),
    splits=True,
    deleted=forget_journals,
    details="walg_mysql.catalog:detailed_list",
)

Permanent = Annotated[bool, typer.Option("--permanent", "-p", help="never delete it by age or count")]
AddUserData = Annotated[str, typer.Option(help="JSON that is stored with the backup")]
CountJournals = Annotated[bool, typer.Option("--count-journals", help="account for the binlogs between backups")]
From = Annotated[str, typer.Option("--from", "-f", help="configuration file of the storage to copy from")]
To = Annotated[str, typer.Option("--to", "-t", help="configuration file of the storage to copy to")]
File = Annotated[str, typer.Argument(metavar="[FILE]", help="an xbstream; default: standard input")]
DataDir = Annotated[str, typer.Option(help="the directory to write to")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the engine's application."""
    add_list(app, ENGINE)
    add_mark(app, ENGINE)
    add_delete(app, ENGINE)
    for add in (_add_push, _add_fetch, _add_show, _add_get_stream, _add_copy, _add_tools):
        add(app)


def _add_push(app: typer.Typer) -> None:
    @app.command("backup-push", context_settings={"allow_extra_args": True})
    def backup_push(
        ctx: typer.Context,
        permanent: Permanent = False,
        add_user_data: AddUserData = "",
        count_journals: CountJournals = False,
    ) -> None:
        """Make a full backup.

        It is what WALG_STREAM_CREATE_COMMAND prints.

        Example: wal-g mysql backup-push --permanent
        """
        from walg_mysql.backup.push import Options, push

        push(ctx.obj, Options(work.marks_from(ctx.obj, permanent, add_user_data), count_journals))

    @app.command("xtrabackup-push", context_settings={"allow_extra_args": True})
    def xtrabackup_push(
        ctx: typer.Context,
        permanent: Permanent = False,
        add_user_data: AddUserData = "",
        count_journals: CountJournals = False,
        full: Annotated[
            bool, typer.Option("--full/--no-full", "-f", help="--full=false: an increment where possible")
        ] = True,
        delta_from_name: Annotated[str, typer.Option(help="the backup to build on")] = "",
        delta_from_user_data: Annotated[str, typer.Option(help="the backup to build on, by its user data")] = "",
    ) -> None:
        """Make a full or incremental backup with xtrabackup.

        Or with mariabackup. Incremental with --full=false, or when WALG_DELTA_MAX_STEPS allows it.

        Example: wal-g mysql xtrabackup-push --permanent
        """
        from walg_mysql.backup.push import Options, push

        marks = work.marks_from(ctx.obj, permanent, add_user_data)
        push(ctx.obj, Options(marks, count_journals, full, delta_from_name, delta_from_user_data))


def _add_fetch(app: typer.Typer) -> None:
    @app.command("backup-fetch")
    def backup_fetch(
        ctx: typer.Context,
        name: OptionalName = "",
        target_user_data: UserData = "",
        use_xbtool_extract: Annotated[
            bool, typer.Option("--use-xbtool-extract", help="unpack in process into WALG_MYSQL_DATA_DIR")
        ] = False,
        inplace: Annotated[bool, typer.Option("--inplace", help="with it: apply increments' pages directly")] = False,
    ) -> None:
        """Restore a backup and prepare it.

        Everything that it builds on is restored before.

        Example: wal-g mysql backup-fetch LATEST --use-xbtool-extract
        """
        from walg_mysql.restore.fetch import Options, fetch_backup

        fetch_backup(ctx.obj, name, Options(use_xbtool_extract, inplace, target_user_data))


def _add_show(app: typer.Typer) -> None:
    @app.command("backup-show")
    def backup_show(ctx: typer.Context, name: Name) -> None:
        """Print everything that is known about a backup, as JSON.

        Example: wal-g mysql backup-show LATEST
        """
        from walg_mysql import catalog

        typer.echo(catalog.show(ctx.obj, name), nl=False)


def _add_get_stream(app: typer.Typer) -> None:
    @app.command("get-stream")
    def get_stream(
        ctx: typer.Context,
        name: Annotated[str, typer.Argument(metavar="NAME", help="a backup's name or LATEST")],
        file: Annotated[str, typer.Argument(metavar="[FILE]", help="where to; default: standard output")] = "",
    ) -> None:
        """Write the plain stream of a backup, joined and decoded.

        Example: wal-g mysql get-stream LATEST > backup.xbstream
        """
        from walg_mysql import catalog

        catalog.get_stream(ctx.obj, name, file, sys.stdout.buffer.write)
        sys.stdout.flush()


def _add_copy(app: typer.Typer) -> None:
    @app.command("copy")
    def copy(
        ctx: typer.Context,
        source: From,
        target: To,
        backup_name: Annotated[str, typer.Option("--backup-name", "-b", help="a name or LATEST; default: all")] = "",
        with_history: Annotated[bool, typer.Option("--with-history", "-w", help="the binlogs after it too")] = False,
    ) -> None:
        """Copy backups between storages.

        Increments come with what they build on. The command can be repeated.

        Example: wal-g mysql copy --from old.yaml --to new.yaml
        """
        from walg_mysql.copying import Options
        from walg_mysql.copying import copy as run

        run(ctx.obj, source, target, Options(backup_name, history=with_history))

    @app.command("backup-copy")
    def backup_copy(
        ctx: typer.Context,
        source: From,
        target: To,
        every: Annotated[bool, typer.Option("--all", "-a", help="all backups")] = False,
        backup: Annotated[str, typer.Option("--backup", "-b", help="a name or LATEST")] = "",
        add_prefix: Annotated[str, typer.Option("--add-prefix", "-p", help="put before the copies' names")] = "",
    ) -> None:
        """Copy one backup or all, without binary logs.

        With --add-prefix under another name.

        Example: wal-g mysql backup-copy --from old.yaml --to new.yaml --backup LATEST
        """
        from walg_mysql.copying import Options
        from walg_mysql.copying import copy as run

        if every == bool(backup):
            raise UsageError("give either --all or --backup NAME")
        run(ctx.obj, source, target, Options(backup, add_prefix))


def _add_tools(app: typer.Typer) -> None:
    group = typer.Typer(help="Unpack xbstreams.")
    app.add_typer(group, name="xb", hidden=True)

    @group.command("extract")
    def extract(
        file: File = "",
        decompress: Annotated[bool, typer.Option("--decompress", "-d", help="unpack .lz4 and .zst files")] = False,
        data_dir: DataDir = "",
    ) -> None:
        """Unpack an xbstream into a directory."""
        from walg_mysql.xbstream.extract import extract as run
        from walg_mysql.xbstream.files import open_input

        run(open_input(file), _required(data_dir, "--data-dir"), decompress=decompress)

    @group.command("extract-diff")
    def extract_diff(
        file: File = "",
        data_dir: DataDir = "",
        incremental_dir: Annotated[str, typer.Option(help="where the rest goes, for the prepare step")] = "",
    ) -> None:
        """Apply the pages of an increment's xbstream to a restored backup."""
        from walg_mysql.xbstream.delta import extract_delta
        from walg_mysql.xbstream.files import open_input

        extract_delta(
            open_input(file), _required(data_dir, "--data-dir"), _required(incremental_dir, "--incremental-dir")
        )


def _required(value: str, option: str) -> str:
    if not value:
        raise UsageError(f"{option} is missing")
    return value
