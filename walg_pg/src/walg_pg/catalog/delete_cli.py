"""The group `wal-g delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from walg_core.errors import UsageError

if TYPE_CHECKING:
    from walg_pg.catalog.delete import Deleter

_MODIFIERS = ("FULL", "FIND_FULL")
Confirm = Annotated[bool, typer.Option("--confirm", help="really delete; without it the plan is only shown")]
SentinelTime = Annotated[
    bool, typer.Option("--use-sentinel-time", help="order and date backups by their start time instead of their names")
]
Words = Annotated[list[str], typer.Argument(metavar="[FULL|FIND_FULL] …")]

delete = typer.Typer(no_args_is_help=True, help="Delete backups and WAL. Without --confirm only the plan is shown.")


def register(app: typer.Typer) -> None:
    """Add the group to the engine's application."""
    app.add_typer(delete, name="delete")


@delete.callback()
def group(ctx: typer.Context, confirm: Confirm = False, use_sentinel_time: SentinelTime = False) -> None:
    """Delete backups and WAL. Without --confirm only the plan is shown."""
    ctx.meta["walg_pg.confirm"] = confirm
    ctx.meta["walg_pg.by_time"] = use_sentinel_time


def _deleter(ctx: typer.Context, confirm: bool, by_time: bool) -> Deleter:
    from walg_pg.catalog.delete import deleter

    confirm = confirm or bool(ctx.meta.get("walg_pg.confirm"))
    by_time = by_time or bool(ctx.meta.get("walg_pg.by_time"))
    return deleter(ctx.obj, confirm=confirm, by_time=by_time)


def _modified(words: list[str], what: str) -> tuple[str, str]:
    """A modifier ("" for none) and the one word after it. Raises UsageError."""
    modifier = words[0] if len(words) == 2 else ""
    if len(words) not in (1, 2) or (modifier and modifier not in _MODIFIERS):
        raise UsageError(
            f"expected {what}, after FULL or FIND_FULL if one of them is meant, but got: {' '.join(words) or 'nothing'}"
        )
    if words[-1] in _MODIFIERS:
        raise UsageError(f"{words[-1]} must be followed by {what}")
    return modifier, words[-1]


@delete.command("before")
def before(ctx: typer.Context, words: Words, confirm: Confirm = False, use_sentinel_time: SentinelTime = False) -> None:
    """Delete everything before a backup or a time.

    A time stands for the first backup made at or after it.

    Example: wal-g delete before FIND_FULL 2026-11-01T00:00:00Z --confirm
    """
    modifier, text = _modified(words, "a backup's name or a time")
    _deleter(ctx, confirm, use_sentinel_time).before(modifier, text)


@delete.command("retain")
def retain(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[FULL|FIND_FULL] COUNT")] = None,
    after: Annotated[str, typer.Option("-a", "--after", help="keep also everything from this time or name on")] = "",
    keep_within: Annotated[str, typer.Option(help="keep all backups, and all WAL, of this time: 14d, 36h")] = "",
    daily: Annotated[int, typer.Option(min=0, help="keep the newest backup of each of so many days")] = 0,
    weekly: Annotated[int, typer.Option(min=0, help="… weeks (ISO, from Monday, UTC)")] = 0,
    monthly: Annotated[int, typer.Option(min=0, help="… months")] = 0,
    yearly: Annotated[int, typer.Option(min=0, help="… years")] = 0,
    confirm: Confirm = False,
    use_sentinel_time: SentinelTime = False,
) -> None:
    """Keep the newest backups, or what a policy keeps.

    A policy counts days, weeks, months and years; what is older is deleted.

    Example: wal-g delete retain --keep-within 14d --weekly 5 --monthly 12 --confirm
    """
    from walg_pg.catalog.targets import Policy, duration_ns

    within = duration_ns(keep_within) if keep_within else 0
    policy = Policy(within, 0, daily, weekly, monthly, yearly)
    worker = _deleter(ctx, confirm, use_sentinel_time)
    if policy:
        if words or after:
            raise UsageError("a policy of times and a number of backups (or --after) cannot be combined")
        worker.policy(policy)
        return
    modifier, text = _modified(words or [], "the number of backups to keep")
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"the number of backups to keep must be a positive integer, not {text!r}")
    worker.retain(modifier, int(text), after)


@delete.command("everything")
def everything(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[FORCE]")] = None,
    confirm: Confirm = False,
    use_sentinel_time: SentinelTime = False,
) -> None:
    """Delete all backups and all WAL.

    Permanent ones are deleted only with FORCE; without it they stop the command.

    Example: wal-g delete everything FORCE --confirm
    """
    if words and words != ["FORCE"]:
        raise UsageError(f"`delete everything` takes FORCE or nothing, not {' '.join(words)}")
    _deleter(ctx, confirm, use_sentinel_time).everything(force=bool(words))


@delete.command("target")
def target(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[FIND_FULL] [NAME]")] = None,
    target_user_data: Annotated[str, typer.Option(help="the backup that has this user data (JSON)")] = "",
    force: Annotated[bool, typer.Option("--force", help="permanent backups too")] = False,
    confirm: Confirm = False,
    use_sentinel_time: SentinelTime = False,
) -> None:
    """Delete one backup and the deltas that need it.

    With FIND_FULL its whole family. WAL stays.

    Example: wal-g delete target FIND_FULL base_000000010000000000000002 --confirm
    """
    from json import loads

    given = list(words or [])
    modifier = given.pop(0) if given and given[0] in _MODIFIERS else ""
    if len(given) + bool(target_user_data) != 1:
        raise UsageError("give a backup's name, or --target-user-data, and not both")
    try:
        data = loads(target_user_data) if target_user_data else None
    except ValueError as error:
        raise UsageError(f"the user data {target_user_data!r} is not JSON: {error}") from error
    worker = _deleter(ctx, confirm, use_sentinel_time)
    worker.target(modifier, given[0] if given else "", data, force=force)


@delete.command("garbage")
def garbage(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[ARCHIVES|BACKUPS]")] = None,
    without_backup_check: Annotated[
        bool, typer.Option("--without-backup-check", help="also when no backup but permanent ones is left")
    ] = False,
    confirm: Confirm = False,
    use_sentinel_time: SentinelTime = False,
) -> None:
    """Delete what no backup needs.

    That is WAL, and leftovers before the oldest backup that is not permanent.

    Example: wal-g delete garbage ARCHIVES --confirm
    """
    if words and len(words) > 1:
        raise UsageError("`delete garbage` takes ARCHIVES, BACKUPS or nothing")
    worker = _deleter(ctx, confirm, use_sentinel_time)
    worker.garbage(words[0] if words else "", without_backup_check=without_backup_check)
