"""The `pgbackrest` commands: reading the archive of another tool."""

from typing import Annotated

import typer
from walg_core.errors import ObjectNotFound
from walg_core.observe import log

LIST = """List the backups of a pgBackRest repository.

Example: wal-g pgbackrest backup-list --detail
"""
BACKUP = """Restore a full backup of a pgBackRest repository.

Example: wal-g pgbackrest backup-fetch /var/lib/postgresql/18/restored LATEST
"""
WAL = """Fetch one WAL file of a pgBackRest repository.

Example: wal-g pgbackrest wal-fetch 000000010000000000000003 pg_wal/RECOVERYXLOG
"""
SHOW = """Show the timelines of a pgBackRest repository.

Example: wal-g pgbackrest wal-show
"""


def register(app: typer.Typer) -> None:
    """Add the group to the engine's application."""
    group = typer.Typer(no_args_is_help=True, help="Read a pgBackRest repository.")
    group.command("backup-list", help=LIST)(backup_list)
    group.command("backup-fetch", help=BACKUP)(backup_fetch)
    group.command("wal-fetch", help=WAL)(wal_fetch)
    group.command("wal-show", help=SHOW)(wal_show)
    app.add_typer(group, name="pgbackrest")


def backup_list(
    ctx: typer.Context,
    pretty: Annotated[bool, typer.Option("--pretty", help="a table in a box, or indented JSON")] = False,
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    detail: Annotated[bool, typer.Option("--detail", help="read every manifest")] = False,
) -> None:
    from walg_pg.pgbackrest import commands
    from walg_pg.pgbackrest.repository import Repository

    repository = Repository(ctx.obj, ctx.obj.primary_storage())
    try:
        rows = commands.list_rows(repository, detail=detail)
    except ObjectNotFound as error:
        if error.key != repository.list_key:
            raise
        # A success, as in the original: a repository in which nothing was ever stored has no list.
        log.warning(f"{error}; {error.hint}")
        rows = []
    if not rows:
        log.info("No backups found")
    elif json:
        typer.echo(commands.as_json(rows, pretty=pretty, detail=detail))
    else:
        typer.echo(commands.as_text(rows, pretty=pretty, detail=detail), nl=False)


def backup_fetch(ctx: typer.Context, destination: str, backup_name: str) -> None:
    from walg_pg.pgbackrest.commands import fetch_backup

    fetch_backup(ctx.obj, destination, backup_name)


def wal_fetch(ctx: typer.Context, wal_name: str, destination_filename: str) -> None:
    from walg_pg.pgbackrest.commands import fetch_wal

    fetch_wal(ctx.obj, wal_name, destination_filename)


def wal_show(
    ctx: typer.Context, detailed_json: Annotated[bool, typer.Option("--detailed-json", help="print JSON")] = False
) -> None:
    from walg_pg.journal import show
    from walg_pg.pgbackrest.commands import show_wal

    shown = show_wal(ctx.obj)
    text = show.as_json(shown) if detailed_json else show.as_table(shown, with_backups=False)
    typer.echo(text, nl=False)
