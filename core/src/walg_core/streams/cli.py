"""Commands of a stream engine, put into its typer application: `add_all(app, engine)`, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from walg_core.backups import copying, marking
from walg_core.errors import UsageError
from walg_core.streams import engine as work
from walg_core.streams.delete_cli import UserData, add_delete
from walg_core.streams.engine import StreamEngine

Json = Annotated[bool, typer.Option("--json", help="JSON")]
Pretty = Annotated[bool, typer.Option("--pretty", help="a table with borders; with --json: indented")]
Detail = Annotated[bool, typer.Option("--detail", help="what the sentinels tell as well")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="a backup's name or LATEST")]
OptionalName = Annotated[str, typer.Argument(metavar="NAME", help="a backup's name or LATEST")]
TargetStorage = Annotated[str, typer.Option(help="the storage to look at (default: all)")]


def add_all(app: typer.Typer, engine: StreamEngine, *, without: Iterable[str] = ()) -> None:
    """`backup-push`, `backup-fetch`, `backup-list`, `backup-mark`, `delete …`, `copy`, except those in `without`."""
    for name, add in _BUILDERS.items():
        if name not in without:
            add(app, engine)


def add_push(app: typer.Typer, engine: StreamEngine) -> None:
    """`backup-push`; further words are ignored as in the original."""

    @app.command("backup-push", context_settings={"allow_extra_args": True})
    def backup_push(
        ctx: typer.Context,
        permanent: Annotated[bool, typer.Option("--permanent", "-p", help="never delete it by age or count")] = False,
        add_user_data: Annotated[str, typer.Option(help="JSON that is stored with the backup")] = "",
    ) -> None:
        """Back up what WALG_STREAM_CREATE_COMMAND prints.

        Example: wal-g backup-push --permanent
        """
        work.push(ctx.obj, engine, work.marks_from(ctx.obj, permanent, add_user_data))


def add_fetch(app: typer.Typer, engine: StreamEngine) -> None:
    """`backup-fetch`."""

    @app.command("backup-fetch")
    def backup_fetch(ctx: typer.Context, name: OptionalName = "", target_user_data: UserData = "") -> None:
        """Restore a backup through WALG_STREAM_RESTORE_COMMAND.

        Example: wal-g backup-fetch LATEST
        """
        work.fetch(ctx.obj, engine, name, target_user_data)


def add_list(app: typer.Typer, engine: StreamEngine) -> None:
    """`backup-list`."""

    @app.command("backup-list")
    def backup_list(
        ctx: typer.Context,
        pretty: Pretty = False,
        json: Json = False,
        detail: Detail = False,
        target_storage: TargetStorage = "",
    ) -> None:
        """List the backups, oldest first.

        Example: wal-g backup-list --detail --json
        """
        text = work.listing(ctx.obj, engine, pretty=pretty, json=json, detail=detail, target=target_storage)
        if text:
            typer.echo(text, nl=False)


def add_mark(app: typer.Typer, engine: StreamEngine) -> None:
    """`backup-mark`."""

    @app.command("backup-mark")
    def backup_mark(
        ctx: typer.Context,
        name: Annotated[str, typer.Argument(metavar="NAME", help="a backup's name")] = "",
        backup: Annotated[str, typer.Option("--backup", "-b", help="the same, as an option")] = "",
        impermanent: Annotated[bool, typer.Option("--impermanent", "-i", help="take the mark away")] = False,
    ) -> None:
        """Mark a backup as permanent, or take the mark away.

        What it builds on is marked with it; deletion by age or count leaves marked backups alone.

        Example: wal-g backup-mark stream_20261122T120000Z
        """
        if bool(name) == bool(backup):
            raise UsageError("name one backup to mark")
        marking.mark(ctx.obj.write_storage(), name or backup, engine.form, permanent=not impermanent)


def add_copy(app: typer.Typer, engine: StreamEngine) -> None:
    """`copy`."""

    @app.command("copy")
    def copy(
        ctx: typer.Context,
        source: Annotated[str, typer.Option("--from", "-f", help="configuration file of the storage to copy from")],
        target: Annotated[str, typer.Option("--to", "-t", help="configuration file of the storage to copy to")],
        backup_name: Annotated[str, typer.Option("--backup-name", "-b", help="a name or LATEST; default: all")] = "",
    ) -> None:
        """Copy backups between storages, bytes unchanged. Can be repeated: what is there already is skipped.

        Example: wal-g copy --from old.yaml --to new.yaml
        """
        copying.copy_backups(
            ctx.obj, source, target, backup_name, depths_of=lambda storage: work.depths(storage, engine.form)
        )


_BUILDERS: dict[str, Callable[[typer.Typer, StreamEngine], None]] = {
    "push": add_push,
    "fetch": add_fetch,
    "list": add_list,
    "mark": add_mark,
    "delete": add_delete,
    "copy": add_copy,
}
