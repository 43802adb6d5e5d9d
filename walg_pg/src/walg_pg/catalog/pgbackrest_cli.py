"""The group `wal-g pgbackrest`: reading the repositories of pgBackRest."""

from __future__ import annotations

from typing import Annotated

import typer
from walg_core.context import Context

pgbackrest = typer.Typer(no_args_is_help=True, help="Read pgBackRest repositories (beta).")


def register(app: typer.Typer) -> None:
    """Add the group to the engine's application."""
    app.add_typer(pgbackrest, name="pgbackrest")


@pgbackrest.command("backup-list")
def backup_list(
    ctx: typer.Context,
    pretty: Annotated[bool, typer.Option("--pretty", help="a table with borders; with --json: indented")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON")] = False,
    detail: Annotated[bool, typer.Option("--detail", help="what the manifests tell")] = False,
) -> None:
    """List the backups of the stanza, oldest first."""
    from walg_core.observe import log

    from walg_pg.catalog.pgbackrest import Stanza, rows_as_json, rows_as_table

    context: Context = ctx.obj
    stanza = Stanza(context.primary_storage(), context.config.get("PGBACKREST_STANZA"))
    found = stanza.backups()
    manifests = [stanza.manifest(each.label) for each in found] if detail else None
    if json:
        typer.echo(rows_as_json(found, manifests, pretty=pretty))
    elif not found:
        log.info("No backups found")
    else:
        typer.echo(rows_as_table(found, manifests, pretty=pretty), nl=False)


@pgbackrest.command("backup-fetch")
def backup_fetch(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="DIRECTORY", help="missing or empty")],
    name: Annotated[str, typer.Argument(help="a label or LATEST")],
) -> None:
    """Restore a full backup of the stanza."""
    from walg_core.observe import log

    from walg_pg.catalog.pgbackrest import Stanza, fetch

    context: Context = ctx.obj
    stanza = Stanza(context.primary_storage(), context.config.get("PGBACKREST_STANZA"))
    label = fetch(context, stanza, destination, name)
    log.info(f"Backup extraction complete: {label} is in {destination}")
