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
    """Send a stopped replica what it lacks, over the network and without a storage."""
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
    """Wait for catchup-send on the primary and bring a stopped replica forward."""
    from walg_pg.catchup.receive import Receiver

    context: Context = ctx.obj
    Receiver(context, pgdata).run(port)
