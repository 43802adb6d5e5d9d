"""Commands of `walg_pg.catchup`."""

from __future__ import annotations

from typing import Annotated

import typer
from walg_core.context import Context


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
    app.command("catchup-send")(catchup_send)
    app.command("catchup-receive")(catchup_receive)


def catchup_send(
    ctx: typer.Context,
    pgdata: Annotated[str, typer.Argument(metavar="PGDATA", help="the primary's data directory")],
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="where catchup-receive waits")],
) -> None:
    """Send a stopped replica what it lacks.

    It goes over the network, without a storage.

    Example: wal-g catchup-send /var/lib/postgresql/18/main replica:7777
    """
    from walg_pg.catchup.send import Sender

    context: Context = ctx.obj
    Sender(context, pgdata, address).run()


def catchup_receive(
    ctx: typer.Context,
    pgdata: Annotated[str, typer.Argument(metavar="PGDATA", help="the data directory of the stopped replica")],
    port: Annotated[
        str, typer.Argument(metavar="PORT", help="where to listen: a port, or address:port for one of the host's")
    ],
) -> None:
    """Bring a stopped replica forward with catchup-send.

    It waits until that command on the primary calls.

    Example: wal-g catchup-receive /var/lib/postgresql/18/main 7777
    """
    from walg_pg.catchup.receive import Receiver

    context: Context = ctx.obj
    Receiver(context, pgdata).run(port)
