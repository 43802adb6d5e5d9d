"""What the commands of `wal-g st` share: which storages they act on, and what a path given to them means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from walg_core.context import Context
from walg_core.errors import ConfigError, WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage
from walg_core.storage.registry import open_named, storage_names

Target = Annotated[str, typer.Option("-t", "--target", help="storage to work on: default, a failover's name, or all")]
Glob = Annotated[bool, typer.Option("-g", "--glob", help="the path is a pattern of *, ? and [..]")]
_TARGET, _GLOB = "walg.st.target", "walg.st.glob"


def common(ctx: typer.Context, target: Target = "", glob: Glob = False) -> None:
    """The options that stand before a command (`st -t NAME ls`)."""
    ctx.meta[_TARGET], ctx.meta[_GLOB] = target, glob


def chosen(ctx: typer.Context, target: str) -> str:
    """The target's name, given to the command or to the group before it."""
    return target or ctx.meta.get(_TARGET) or "default"


def each(ctx: typer.Context, target: str, action: Callable[[Storage], None]) -> None:
    """On the target, or on all storages in order; then only a failure of every one is a failure."""
    context: Context = ctx.obj
    target = chosen(ctx, target)
    if target != "all":
        action(_named(context, target))
        return
    succeeded = False
    for name in storage_names(context):
        log.info(f"storage {name}")
        try:
            action(_named(context, name))
            succeeded = True
        except WalgError as error:
            log.error(str(error))
    if not succeeded:
        raise WalgError("all storages failed")


def _named(context: Context, name: str) -> Storage:
    try:
        return open_named(context, name)
    except ConfigError as error:
        raise ConfigError(f'failed to init folder for storage "{name}": {error}', hint=error.hint) from error


def globbing(ctx: typer.Context, glob: bool) -> bool:
    """Whether paths are patterns, as the command or the group before it says."""
    return glob or bool(ctx.meta.get(_GLOB))


def folder_prefix(path: str) -> str:
    """The prefix that a path means, "" for the root."""
    name = object_name(path)
    return name + "/" if name else ""


def object_name(path: str) -> str:
    """The path without what changes nothing: `.` and doubled slashes. `..` stays, and is refused later."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))
