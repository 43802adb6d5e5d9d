"""What libraries say through the standard `logging`, through `warnings` and by dying threads, on our log."""

from __future__ import annotations

import logging
import threading
import traceback

from walg_core.observe import log


class _Forward(logging.Handler):
    """Records at WARNING and above; with DEVEL also INFO (libraries' DEBUG quotes requests with their credentials)."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = f"{record.name}: {record.getMessage()}"
        except Exception:
            self.handleError(record)
            return
        if record.levelno >= logging.ERROR:
            log.error(message)
        elif record.levelno >= logging.WARNING and record.name != "py.warnings":
            log.warning(message)
        else:
            log.debug(message)


def install() -> None:
    """Forward everything to `walg_core.observe.log`; call it after the log is configured. Idempotent."""
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, _Forward)] + [_Forward()]
    root.setLevel(logging.INFO if log.level() == log.DEVEL else logging.WARNING)
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


def _thread_died(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread else "?"
    log.error(f"the thread {name} failed: {args.exc_type.__name__}: {args.exc_value}")
    if log.level() == log.DEVEL and args.exc_value is not None:
        log.debug("".join(traceback.format_exception(args.exc_value)).rstrip("\n"))
