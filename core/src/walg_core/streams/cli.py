"""Commands of a stream engine, put into its typer application: `add_all(app, engine)`, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from walg_core.backups import copying, deletion, marking
from walg_core.errors import UsageError
from walg_core.streams import engine as work
from walg_core.streams.engine import StreamEngine

Confirm = Annotated[bool, typer.Option("--confirm", help="really delete; without it only say what would go")]
Json = Annotated[bool, typer.Option("--json", help="JSON")]
Pretty = Annotated[bool, typer.Option("--pretty", help="a table with borders; with --json: indented")]
Detail = Annotated[bool, typer.Option("--detail", help="what the sentinels tell as well")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="a backup's name or LATEST")]
OptionalName = Annotated[str, typer.Argument(metavar="NAME", help="a backup's name or LATEST")]
UserData = Annotated[str, typer.Option(help="the backup that has this user data (JSON)")]
TargetStorage = Annotated[str, typer.Option(help="the storage to look at (default: all)")]

_BUILDERS = ("push", "fetch", "list", "mark", "delete", "copy")


def add_all(app: typer.Typer, engine: StreamEngine, *, without: Iterable[str] = ()) -> None:
    """`backup-push`, `backup-fetch`, `backup-list`, `backup-mark`, `delete …`, `copy`, except those in `without`."""
    for name in _BUILDERS:
        if name not in without:
            globals()[f"add_{name}"](app, engine)


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


def add_delete(app: typer.Typer, engine: StreamEngine, *, callback: Callable[..., None] | None = None) -> None:
    """`delete before|retain|everything|target|garbage`.

    `callback` stands for the bare `delete` of an engine that has options there, `--confirm` among them.
    """
    group = typer.Typer(help="Delete backups and what is older than them. Without --confirm nothing is deleted.")
    app.add_typer(group, name="delete")

    def confirmed(ctx: typer.Context, confirm: bool) -> bool:
        return confirm or bool(ctx.parent and ctx.parent.params.get("confirm"))

    def delete(ctx: typer.Context, confirm: Confirm = False) -> None:  # noqa: ARG001 - `confirmed` reads it
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())

    group.callback(invoke_without_command=True)(callback or delete)

    @group.command("before")
    def before(
        ctx: typer.Context,
        words: Annotated[list[str], typer.Argument(metavar="[FIND_FULL] NAME|TIME")],
        confirm: Confirm = False,
    ) -> None:
        """Delete everything older than a backup or a time.

        A time (RFC 3339 with zone) stands for the first backup at or after it.

        Example: wal-g delete before FIND_FULL 2026-11-01T00:00:00Z --confirm
        """
        modifier, text = deletion.before_arguments(words)
        work.delete_older(
            ctx.obj,
            engine,
            lambda backups: deletion.target_before(backups, modifier, text),
            confirm=confirmed(ctx, confirm),
        )

    @group.command("retain")
    def retain(
        ctx: typer.Context,
        words: Annotated[list[str], typer.Argument(metavar="[FULL|FIND_FULL] COUNT")],
        after: Annotated[str, typer.Option("--after", "-a", help="keep what is not older than this name or time")] = "",
        confirm: Confirm = False,
    ) -> None:
        """Keep the newest backups and delete everything older.

        Example: wal-g delete retain FULL 7 --confirm
        """
        modifier, count = deletion.retain_arguments(words)

        def choose(backups: list[deletion.Candidate]) -> deletion.Candidate | None:
            if after:
                return deletion.target_retain_after(backups, modifier, count, after)
            return deletion.target_retain(backups, modifier, count)

        work.delete_older(ctx.obj, engine, choose, confirm=confirmed(ctx, confirm))

    @group.command("everything")
    def everything(
        ctx: typer.Context,
        force: Annotated[str, typer.Argument(metavar="[FORCE]")] = "",
        confirm: Confirm = False,
    ) -> None:
        """Delete all backups and logs.

        Permanent ones are deleted only with FORCE; without it they stop the command.

        Example: wal-g delete everything FORCE --confirm
        """
        if force not in ("", "FORCE"):
            raise UsageError(f"unknown word '{force}': expected FORCE or nothing")
        work.delete_everything(ctx.obj, engine, force=bool(force), confirm=confirmed(ctx, confirm))

    @group.command("target")
    def target(
        ctx: typer.Context,
        words: Annotated[list[str] | None, typer.Argument(metavar="[FIND_FULL] [NAME]")] = None,
        target_user_data: UserData = "",
        confirm: Confirm = False,
    ) -> None:
        """Delete one backup with the increments on it.

        With FIND_FULL its whole chain goes.

        Example: wal-g delete target stream_20261122T120000Z --confirm
        """
        work.delete_target(ctx.obj, engine, words or [], target_user_data, confirm=confirmed(ctx, confirm))

    @group.command("garbage")
    def garbage(ctx: typer.Context, confirm: Confirm = False) -> None:
        """Delete what failed backups left behind.

        Not while a backup runs: it looks the same.

        Example: wal-g delete garbage --confirm
        """
        work.delete_garbage(ctx.obj, engine, confirm=confirmed(ctx, confirm))
