"""The etcd application: the commands of a stream engine, and those of its write-ahead log."""

from typing import Annotated

import typer
from walg_core.streams.cli import add_all
from walg_core.streams.engine import StreamEngine

from walg_etcd.journal import FOLDER
from walg_etcd.sentinel import FORM, sentinel

ENGINE = StreamEngine(sentinel=sentinel, form=FORM, archives=(FOLDER,))

app = typer.Typer(name="etcd", no_args_is_help=True, help="Archive and restore etcd.")
add_all(app, ENGINE)


@app.command("wal-push")
def wal_push(ctx: typer.Context) -> None:
    """Archive the complete files of etcd's write-ahead log.

    Those that are archived already are left out.

    Example: wal-g etcd wal-push
    """
    from walg_etcd.journal.push import push

    push(ctx.obj)


@app.command("wal-fetch")
def wal_fetch(
    ctx: typer.Context,
    destination: Annotated[str, typer.Argument(metavar="DIRECTORY", help="where the files go; must exist")],
    since: Annotated[str, typer.Option(help="the backup that the log shall continue: a name or LATEST")] = "LATEST",
) -> None:
    """Fetch the log files from a backup on.

    Example: wal-g etcd wal-fetch /restored/member/wal --since LATEST
    """
    from walg_etcd.journal.fetch import fetch

    fetch(ctx.obj, ENGINE, destination, since)
