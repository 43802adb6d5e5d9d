"""The console script: `main` for processes, `run` for whoever wants the status."""

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from walg_core.cli.session import Session


def main(engine: "str | None" = None) -> None:
    """`wal-g`: run the command line of this process and exit with its status; `engine` as for `run`."""
    status = run(engine=engine)
    if "typer" not in sys.modules:
        # A cold command has closed and synced everything; taking the interpreter apart would cost another 8 ms.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = status or 1
        os._exit(status)
    raise SystemExit(status)


def run(argv: "Sequence[str] | None" = None, engine: str | None = None) -> int:
    """Run one command line (without the program's name) and return the exit status; never raises, never exits.

    `engine`: the engine whose commands stand at the top level; None: as `wal-g` chooses (design: one engine at the
    top level, several under their names).
    """
    from walg_core.cli import signals
    from walg_core.cli.failure import report

    arguments = list(sys.argv[1:] if argv is None else argv)
    handlers = signals.install()
    try:
        from walg_core.cli.session import Session

        session = Session(arguments, engine)
        return _run(session)
    except BaseException as error:
        return report(error, debug="--debug" in arguments)
    finally:
        signals.restore(handlers)


def _run(session: "Session") -> int:
    """The command, its failure shown, storages closed, metrics sent whatever happened."""
    from walg_core.cli.cold import match
    from walg_core.cli.failure import report

    started = time.monotonic()
    status = 1
    try:
        found = match(session)
        if found:
            session.command, command = found
            status = command()
        else:
            from walg_core.cli.app import run_application

            status = run_application(session)
    except SystemExit as stop:
        status = _status(stop.code)
    except BaseException as error:
        status = session.failed(report(error, debug=session.debug))
    if session.context:
        status = _finish(session, status, time.monotonic() - started)
    return status


def _finish(session: "Session", status: int, seconds: float) -> int:
    from walg_core.cli.failure import report
    from walg_core.observe import metrics

    try:
        session.close()
    except BaseException as error:
        status = status or report(error, debug=session.debug)
    try:
        metrics.finish(session.config, engine=session.engine, command=session.command, status=status, seconds=seconds)
    except Exception as error:
        from walg_core.observe import log

        log.warning(f"metrics could not be sent: {error}")
    return status


def _status(code: object) -> int:
    """What `SystemExit` means: a number is the status, a text is shown."""
    if code is None or isinstance(code, int):
        return int(code or 0)
    from walg_core.observe import log

    log.error(str(code))
    return 1
