"""The `delete` commands of a stream engine: `add_delete(app, engine)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from walg_core.backups import deletion
from walg_core.errors import UsageError
from walg_core.streams import engine as work
from walg_core.streams.engine import StreamEngine

Confirm = Annotated[bool, typer.Option("--confirm", help="really delete; without it only say what would go")]
UserData = Annotated[str, typer.Option(help="the backup that has this user data (JSON)")]


def add_delete(app: typer.Typer, engine: StreamEngine, *, callback: Callable[..., None] | None = None) -> None:
    """`delete before|retain|everything|target|garbage`.

    `callback` stands for the bare `delete` of an engine that has options there, `--confirm` among them.
    """
    group = typer.Typer(help="Delete backups and what is older than them. Without --confirm nothing is deleted.")
    app.add_typer(group, name="delete")

    def delete(ctx: typer.Context, confirm: Confirm = False) -> None:  # noqa: ARG001 - `_confirmed` reads it
        if ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())

    group.callback(invoke_without_command=True)(callback or delete)
    for add in (_add_before, _add_retain, _add_everything, _add_target, _add_garbage):
        add(group, engine)


def _confirmed(ctx: typer.Context, confirm: bool) -> bool:
    return confirm or bool(ctx.parent and ctx.parent.params.get("confirm"))


def _add_before(group: typer.Typer, engine: StreamEngine) -> None:
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
            confirm=_confirmed(ctx, confirm),
        )


def _add_retain(group: typer.Typer, engine: StreamEngine) -> None:
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

        work.delete_older(ctx.obj, engine, choose, confirm=_confirmed(ctx, confirm))


def _add_everything(group: typer.Typer, engine: StreamEngine) -> None:
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
        work.delete_everything(ctx.obj, engine, force=bool(force), confirm=_confirmed(ctx, confirm))


def _add_target(group: typer.Typer, engine: StreamEngine) -> None:
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
        work.delete_target(ctx.obj, engine, words or [], target_user_data, confirm=_confirmed(ctx, confirm))


def _add_garbage(group: typer.Typer, engine: StreamEngine) -> None:
    @group.command("garbage")
    def garbage(ctx: typer.Context, confirm: Confirm = False) -> None:
        """Delete what failed backups left behind.

        What running backups have stored is left alone.

        Example: wal-g delete garbage --confirm
        """
        work.delete_garbage(ctx.obj, engine, confirm=_confirmed(ctx, confirm))
