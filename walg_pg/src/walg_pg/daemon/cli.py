"""Commands of `walg_pg.daemon`."""

from typing import Annotated

import typer

HELP = """Answer wal-push and wal-fetch over a UNIX socket.

It saves a new process for each segment.

Ask it with walg-daemon-client. SIGTERM ends it gracefully, SIGHUP makes it open storages and keys anew, SIGUSR1
reopens the log.

Example: wal-g daemon /run/wal-g.sock
"""


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
    app.command("daemon", help=HELP)(daemon)


def daemon(
    ctx: typer.Context, daemon_socket_path: Annotated[str, typer.Argument(help="path of the socket to listen on")]
) -> None:
    import signal

    from walg_core.observe import log
    from walg_core.pipeline.heap import keep_freed_memory

    from walg_pg.daemon.server import Daemon

    keep_freed_memory()
    server = Daemon(ctx.obj, daemon_socket_path)
    server.listen()

    def reopen(*_: object) -> None:
        config = ctx.obj.config
        log.configure(
            config.get("WALG_LOG_LEVEL"), config.get("WALG_LOG_DESTINATION") or "", config.get("WALG_LOG_FORMAT")
        )

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    signal.signal(signal.SIGHUP, lambda *_: server.reload())
    signal.signal(signal.SIGUSR1, reopen)
    server.serve()
