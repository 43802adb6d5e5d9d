"""`wal-g st`: the storage tools (spec/storages.md 6). `build` makes the group, with the transfers of an engine."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from walg_core.cli import st_transfer
from walg_core.cli.st_read import cat, check_read, get, ls, stat
from walg_core.cli.st_target import common
from walg_core.cli.st_write import check_write, conformance, copy, put, rm, sweep


def build(transfers: Iterable[st_transfer.FolderTransfer | st_transfer.BackupTransfer] = ()) -> typer.Typer:
    """The `st` group. `transfers` are an engine's own commands below `st transfer`."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Storage tools: look at objects, move them, check access. They act on the storage at once.",
    )
    group.callback()(common)
    for command in (ls, stat, cat, get, put, rm, copy, conformance, sweep):
        group.command(command.__name__)(command)
    check = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check access to the storage.")
    check.command("read")(check_read)
    check.command("write")(check_write)
    group.add_typer(check, name="check")
    group.add_typer(st_transfer.build(transfers), name="transfer")
    return group


app = build()
