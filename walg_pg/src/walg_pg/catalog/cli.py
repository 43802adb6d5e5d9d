"""Commands of `walg_pg.catalog`: lists and marks; `delete` is in `delete_cli`."""

from __future__ import annotations

from typing import Annotated

import typer
from walg_core.context import Context

from walg_pg.catalog import delete_cli

Pretty = Annotated[bool, typer.Option("--pretty", help="a table with borders; with --json: indented")]
Json = Annotated[bool, typer.Option("--json", help="JSON")]
Detail = Annotated[bool, typer.Option("--detail", help="everything that the metadata tells")]
TargetStorage = Annotated[str, typer.Option(help="the storage to look at (default: all)")]


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
    app.command("backup-list")(backup_list)
    app.command("backup-mark")(backup_mark)
    app.command("backup-verify")(backup_verify)
    app.command("copy")(copy_backups)
    app.command("catchup-list")(catchup_list)
    delete_cli.register(app)


def show_list(context: Context, folder: str, *, pretty: bool, json: bool, detail: bool, target: str) -> None:
    """Print the backups of a folder in the form asked for."""
    from walg_core.observe import log

    from walg_pg.catalog import listing

    storages = context.read_storages(target)
    found = listing.rows(storages, folder, detail=detail)
    if json:
        typer.echo(listing.as_json(found, pretty=pretty))
        return
    if not found:
        log.info("No backups found")
        return
    typer.echo(listing.as_table(found, pretty=pretty, detail=detail), nl=False)


def backup_list(
    ctx: typer.Context,
    pretty: Pretty = False,
    json: Json = False,
    detail: Detail = False,
    target_storage: TargetStorage = "",
) -> None:
    """List the base backups, oldest first.

    Example: wal-g backup-list --detail --json
    """
    from walg_pg.names import BASEBACKUPS

    show_list(ctx.obj, BASEBACKUPS, pretty=pretty, json=json, detail=detail, target=target_storage)


def backup_mark(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="a backup's name or LATEST")],
    impermanent: Annotated[bool, typer.Option("-i", "--impermanent", help="take the mark away")] = False,
) -> None:
    """Mark a backup as permanent, or take the mark away.

    The backups that it builds on are marked with it; no deletion takes them.

    Example: wal-g backup-mark base_000000010000000000000002
    """
    from walg_pg.catalog.mark import mark

    context: Context = ctx.obj
    size = int(context.config.get("WALG_PG_WAL_SIZE")) << 20
    mark(context.read_storages(), name, permanent=not impermanent, segment_size=size)


def backup_verify(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="a backup's name or LATEST; without: all")] = "",
    read_data: Annotated[str, typer.Option(help="read the stored data too: all, or a share like 5%")] = "",
    json: Json = False,
) -> None:
    """Check that backups can be restored.

    Their structure, chains, parts and WAL, and as far as asked for every page.

    Example: wal-g backup-verify LATEST --read-data 5%
    """
    from walg_core.backups.gojson import dumps

    from walg_pg.catalog.verify import verify

    report = verify(ctx.obj, name, read_data)
    typer.echo(dumps(report.as_json(), indent=4).decode() if json else report.as_text())
    if not report.ok:
        raise typer.Exit(1)


def copy_backups(
    ctx: typer.Context,
    source: Annotated[str, typer.Option("--from", "-f", help="configuration file of the storage to copy from")],
    target: Annotated[str, typer.Option("--to", "-t", help="configuration file of the storage to copy to")],
    backup_name: Annotated[str, typer.Option("--backup-name", "-b", help="a backup's name or LATEST; else all")] = "",
    with_history: Annotated[
        bool, typer.Option("--with-history", "-w", help="all WAL from the backup on, not only what it needs")
    ] = False,
) -> None:
    """Copy backups to another storage, byte for byte.

    The backups that they build on and their WAL go with them.

    Example: wal-g copy --from old.yaml --to new.yaml --with-history
    """
    from walg_pg.catalog.copy import copy

    copy(ctx.obj, source, target, backup_name, history=with_history)


def catchup_list(ctx: typer.Context, pretty: Pretty = False, json: Json = False, detail: Detail = False) -> None:
    """List the catchup backups, oldest first.

    Example: wal-g catchup-list --pretty
    """
    from walg_pg.names import CATCHUP

    show_list(ctx.obj, CATCHUP, pretty=pretty, json=json, detail=detail, target="default")
