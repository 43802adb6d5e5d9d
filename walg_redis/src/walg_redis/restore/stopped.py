"""Whether a server still works in a data directory: it would overwrite what is restored when it ends."""

from __future__ import annotations

import os

from walg_core.errors import EngineError
from walg_core.settings.config import Config

_NAMES = ("redis-server", "valkey-server", "redis", "valkey", "keydb-server")


def require_stopped(config: Config, data: str) -> None:
    """Raises EngineError when a server's process has `data` as its working directory (a server changes into it)."""
    names = {config.get("WALG_REDIS_SERVER_PROCESS_NAME").rsplit("/", 1)[-1], *_NAMES}
    number = _process_in(os.path.realpath(data), names)
    if number:
        raise EngineError(
            f"a server (process {number}) is running in {data}",
            hint="stop it before the restore, or point WALG_REDIS_DATA_PATH at another directory",
        )


def _process_in(data: str, names: set[str]) -> int:
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return 0
    for number in numbers:
        try:
            with open(f"/proc/{number}/comm", encoding="utf-8", errors="replace") as file:
                program = file.read().strip()
            if any(name.startswith(program) for name in names) and os.readlink(f"/proc/{number}/cwd") == data:
                return number
        except OSError:
            continue
    return 0
