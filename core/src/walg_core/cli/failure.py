"""What a failure looks like: an ERROR line with its hint, a usage error in the original's form, a status."""

import os
import sys

from walg_core.errors import Interrupted, UsageError, WalgError
from walg_core.observe import log
from walg_core.observe.redact import redact


def report(error: BaseException, *, debug: bool) -> int:
    """Show the failure on the log and return the exit status. A traceback only with `debug`."""
    if debug:
        _traceback(error)
    if isinstance(error, UsageError):
        return usage(str(error), f"Hint: {error.hint}" if error.hint else "")
    if isinstance(error, WalgError):
        log.error(str(error), error.hint or "")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        log.error("interrupted")
        return Interrupted.exit_code
    if isinstance(error, BrokenPipeError):
        _close_stdout()
        return 1
    if isinstance(error, OSError):
        log.error(_os_error(error))
        return 1
    if isinstance(error, MemoryError):
        log.error("out of memory", "lower WALG_UPLOAD_CONCURRENCY or WALG_DOWNLOAD_CONCURRENCY")
        return 1
    text = str(error) or "no message"
    hint = "" if debug else "this is a defect of wal-g or of a plugin; run again with --debug for the traceback"
    log.error(f"{type(error).__name__}: {text}", hint)
    return 1


def usage(message: str, help_text: str = "") -> int:
    """A command line that has no meaning: usage on stderr, the bare text on stdout (spec/config.md 11)."""
    message = redact(message)
    sys.stderr.write(f"Error: {message}\n" + (f"{help_text.rstrip()}\n" if help_text else ""))
    sys.stderr.flush()
    try:
        sys.stdout.write(message + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
    return UsageError.exit_code


def _os_error(error: OSError) -> str:
    text = error.strerror or str(error)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f"{' -> '.join(names)}: {text}" if names else text


def _traceback(error: BaseException) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    if log.level() == log.DEVEL:
        log.debug(text.rstrip("\n"))
    else:
        sys.stderr.write(redact(text))


def _close_stdout() -> None:
    """The reader of our output is gone; keep the interpreter from complaining about it at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        return
