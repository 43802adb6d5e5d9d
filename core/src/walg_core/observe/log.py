"""The log: the original's line format or JSON, to stderr or a file (spec/config.md 12).

Not the standard `logging` module: importing that costs 10-20 ms in every cold `wal-push`. The full application
forwards libraries' records here (`walg_core.observe.bridge`).
"""

import os
import sys
import time

from walg_core.observe.redact import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

DEVEL, NORMAL, ERROR = "DEVEL", "NORMAL", "ERROR"
_SHOWN = {
    DEVEL: frozenset(("ERROR", "WARNING", "INFO", "DEBUG")),
    NORMAL: frozenset(("ERROR", "WARNING", "INFO")),
    ERROR: frozenset(("ERROR",)),
}


class _State:
    level = NORMAL
    shown = _SHOWN[NORMAL]
    json = False
    stream: "TextIO | None" = None
    prefix = ""
    clear: "Callable[[], None] | None" = None


def configure(level: str = NORMAL, destination: str = "", form: str = "text", prefix: str = "") -> None:
    """Set the level (DEVEL, NORMAL, ERROR), `stderr` or a file to append to, `text` or `json`.

    Raises ConfigError for an unknown level or a file that cannot be opened. `prefix` stands before the level's name.
    """
    from walg_core.errors import ConfigError

    if level not in _SHOWN:
        raise ConfigError(f"WALG_LOG_LEVEL: expected one of NORMAL, DEVEL, ERROR but is {level!r}")
    if form not in ("text", "json"):
        raise ConfigError(f"WALG_LOG_FORMAT: expected text or json but is {form!r}")
    _State.level, _State.shown, _State.json, _State.prefix = level, _SHOWN[level], form == "json", prefix
    _State.stream = None
    if destination and destination != "stderr":
        try:
            fd = os.open(destination, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            _State.stream = open(fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise ConfigError(f"WALG_LOG_DESTINATION: cannot open {destination}: {error.strerror}") from error


def level() -> str:
    """The configured level."""
    return _State.level


def is_json() -> bool:
    """Whether lines are JSON records."""
    return _State.json


def before_line(clear: "Callable[[], None] | None") -> None:
    """Call this before every line: what else is on the terminal must be taken away. None ends it."""
    _State.clear = clear


def _write(severity: str, message: str, hint: str = "") -> None:
    if severity not in _State.shown:
        return
    message = redact(message)
    now = time.time()
    micro = int(now % 1 * 1_000_000)
    if _State.json:
        import json

        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        record = {"time": f"{stamp}.{micro:06d}Z", "level": severity, "message": message}
        if hint:
            record["hint"] = redact(hint)
        line = json.dumps(record, ensure_ascii=False)
    else:
        stamp = f"{time.strftime('%Y/%m/%d %H:%M:%S', time.localtime(now))}.{micro:06d}"
        line = f"{_State.prefix}{severity}: {stamp} {message}"
        if hint:
            line += f"\n{_State.prefix}HINT: {stamp} {redact(hint)}"
    stream = _State.stream or sys.stderr
    if _State.clear and _State.stream is None:
        _State.clear()
    try:
        stream.write(line + "\n")
        stream.flush()
    except (OSError, ValueError):
        # A full disk or a closed pipe under the log must never fail a backup; there is nowhere left to say it.
        _State.shown = frozenset()


def error(message: str, hint: str = "") -> None:
    """`hint` tells the reader what to do next: a line of its own, in JSON a field of the record."""
    _write("ERROR", message, hint)


def warning(message: str) -> None:
    _write("WARNING", message)


def info(message: str) -> None:
    _write("INFO", message)


def debug(message: str) -> None:
    _write("DEBUG", message)
