"""What an interrupted restore has done, kept in the destination until it is complete.

The file names the restore by a fingerprint of everything that decides its result, so that a re-run with the same
arguments goes on and one with others refuses. A part is listed only after its data is durable.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from walg_core.errors import EngineError
from walg_core.io.destination import components

from walg_pg.restore.checks import refuse_non_empty

if TYPE_CHECKING:
    from walg_core.io.destination import Destination

STATE_NAME = ".walg_restore_state.json"
_FORMAT = 1
_SECONDS_BETWEEN_CHECKPOINTS = 15.0


def fingerprint(values: Any) -> str:
    """A digest of JSON-able values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


class State:
    """The parts of this restore that are done, by key. `checkpoint` makes them durable and says so in the file."""

    def __init__(self, root: Destination, backup: str, digest: str) -> None:
        self._root = root
        self._backup = backup
        self._digest = digest
        self._lock = threading.Lock()
        self._pending: list[str] = []
        self._last = time.monotonic()
        self.done: set[str] = set()
        self.resumed = False

    def open(self) -> None:
        """Begin, or go on where the last run stopped. EngineError when the directory is not empty and not ours."""
        self._root.remove_leftovers(components(STATE_NAME))
        found = self._root.read_file(components(STATE_NAME), 1 << 26)
        if found is not None:
            self._go_on(found)
            return
        refuse_non_empty(self._root)
        self._write()

    def _go_on(self, data: bytes) -> None:
        try:
            values = json.loads(data)
            digest, done, backup = values["fingerprint"], values["done"], values["backup"]
            readable = values["format"] == _FORMAT and isinstance(done, list)
        except (ValueError, KeyError, TypeError, RecursionError):
            readable, digest, done, backup = False, "", [], "?"
        if not readable or digest != self._digest:
            raise EngineError(
                f"the directory {self._root.path} holds an interrupted restore of {backup} with other arguments",
                hint="repeat the same command to finish it, or empty the directory first",
            )
        self.done = set(done)
        self.resumed = True

    def finished(self, key: str) -> None:
        """A part has been extracted; from time to time everything so far is made durable and recorded."""
        with self._lock:
            self._pending.append(key)
            if time.monotonic() - self._last < _SECONDS_BETWEEN_CHECKPOINTS:
                return
            self._last = time.monotonic()
            pending = list(self._pending)
        self._checkpoint(pending)

    def checkpoint(self) -> None:
        """Make every finished part durable and record it."""
        with self._lock:
            pending = list(self._pending)
        if pending:
            self._checkpoint(pending)

    def _checkpoint(self, pending: list[str]) -> None:
        self._root.sync()
        with self._lock:
            self.done.update(pending)
            self._pending = [key for key in self._pending if key not in self.done]
            self._write()

    def _write(self) -> None:
        values = {
            "format": _FORMAT,
            "backup": self._backup,
            "fingerprint": self._digest,
            "done": sorted(self.done),
        }
        self._root.write_file(components(STATE_NAME), json.dumps(values).encode(), 0o600)

    def remove(self) -> None:
        """The restore is complete."""
        self._root.remove(components(STATE_NAME))
