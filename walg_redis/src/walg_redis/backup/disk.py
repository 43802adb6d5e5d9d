"""Watching the disk while files are pinned: what the server rewrites then takes space twice (spec/redis.md 3.4)."""

from __future__ import annotations

import os
import threading
import time

from walg_core.errors import ConfigError, EngineError
from walg_core.settings.config import Config


class DiskWatcher:
    """Raises EngineError from `check` when the disk of the data directory is fuller than allowed."""

    def __init__(self, config: Config) -> None:
        self._path = config.get("WALG_REDIS_DATA_PATH")
        self._free = 100 - config.get("WALG_REDIS_DATA_THRESHOLD")
        self._interval = max(0.05, config.get("WALG_REDIS_DATA_TIMEOUT"))
        self._next = 0.0
        self._lock = threading.Lock()
        if not os.path.isdir(self._path):
            raise ConfigError(
                f"the data directory {self._path} does not exist", hint="set WALG_REDIS_DATA_PATH to the server's `dir`"
            )

    def check(self) -> None:
        """Look at most every WALG_REDIS_DATA_TIMEOUT seconds."""
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + self._interval
        found = os.statvfs(self._path)
        if found.f_bavail * 100 // max(1, found.f_blocks) < self._free:
            raise EngineError(
                "disk is filled above limit, exiting",
                hint=f"free space for {self._path}, or raise WALG_REDIS_DATA_THRESHOLD",
            )
