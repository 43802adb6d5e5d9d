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
    app.command("wal-fetch", help=FETCH)(wal_fetch)
    app.command("wal-prefetch", hidden=True, help=PREFETCH)(wal_prefetch)


PUSH = """Archive one WAL file, and those that wait behind it.

Example, in postgresql.conf: archive_command = 'wal-g wal-push %p'
"""
FETCH = """Fetch one WAL file from the archive.

Exit status 74 means that no storage has it; above 125, that the archive could not be read.

Example, in postgresql.conf: restore_command = 'wal-g wal-fetch %f %p'
"""
PREFETCH = """Fetch the segments after WAL_NAME for later wal-fetch calls, which start this by themselves.

Example: wal-g wal-prefetch 000000010000000000000003 pg_wal/RECOVERYXLOG
"""


def wal_push(ctx: typer.Context, wal_filepath: str, target_storage: Target = "") -> None:
    raise typer.Exit(cold.wal_push(ctx.obj, [wal_filepath], {"target-storage": target_storage}))


def wal_fetch(ctx: typer.Context, wal_name: str, destination_filename: str, target_storage: Target = "") -> None:
    raise typer.Exit(cold.wal_fetch(ctx.obj, [wal_name, destination_filename], {"target-storage": target_storage}))


def wal_prefetch(ctx: typer.Context, wal_name: str, prefetch_location: str, target_storage: Target = "") -> None:
    raise typer.Exit(cold.wal_prefetch(ctx.obj, [wal_name, prefetch_location], {"target-storage": target_storage}))
