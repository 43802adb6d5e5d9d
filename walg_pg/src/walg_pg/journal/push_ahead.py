"""wal-push-ahead: a burst of segments goes on being uploaded while PostgreSQL asks for one after the other.

`wal-push` starts it, detached, when it leaves many behind. It keeps at most `TOTAL_BG_UPLOADED_LIMIT` segments ahead of
PostgreSQL, and ends when nothing is ready any more or nobody asks. What it stores it marks, as `wal-push` itself does.
"""

import os
import time

from walg_core.io.locks import FileLock
from walg_core.observe import log

from walg_pg.journal import detached
from walg_pg.journal.background import Background
from walg_pg.journal.push import Pusher
from walg_pg.lsn import is_segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.context import Context

PATIENCE = 10.0
"""Seconds without a segment being stored, or taken by PostgreSQL, after which nothing more is uploaded ahead."""
LOOK_INTERVAL = 0.02


def _lock(pusher: "Pusher") -> str:
    return os.path.join(pusher.turns.folder or "", "ahead.lock")


def is_running(pusher: "Pusher") -> bool:
    """Whether one is at work for this WAL directory."""
    if pusher.turns.folder is None:
        return False
    try:
        with FileLock(_lock(pusher), shared=True, wait=False):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def is_wanted(pusher: "Pusher") -> bool:
    """Whether the settings let another process upload while PostgreSQL goes on.

    Limits of rate and unfinished deltas belong to one process; what is renamed must not be what PostgreSQL just asks
    for.
    """
    context = pusher.context
    limited = context.config.is_set("WALG_NETWORK_RATE_LIMIT") and not context.turbo
    return not (pusher.turns.folder is None or pusher.recorder or pusher.renames or limited)


def start(context: "Context", path: str, target: str) -> None:
    """Start the detached command for what waits behind the file at `path`."""
    detached.start(context, ["wal-push-ahead", path], target)


class Ahead(Background):
    """Counts what PostgreSQL has not asked for yet, instead of what was uploaded."""

    def __init__(self, pusher: "Pusher", pushed: str, workers: int, limit: int) -> None:
        self._stored: list[str] = []
        self._moved = time.monotonic()
        super().__init__(pusher, pushed, workers, limit)

    def _offer(self, name: str) -> None:
        # Others have no marker: PostgreSQL's call would only upload them once more.
        if is_segment_name(name):
            super()._offer(name)

    def _account(self, name: str, stored: bool) -> None:
        # One that was stored before, by wal-push itself or an earlier run, waits for PostgreSQL just as well.
        waits = stored or self.pusher.is_marked(name)
        super()._account(name, waits)
        if waits:
            self._stored.append(name)
            self._moved = time.monotonic()

    def run(self) -> None:
        """Until nothing is left to do. Raises what a signal raises, after waiting for what is in flight."""
        try:
            while self._goes_on():
                time.sleep(LOOK_INTERVAL)
        finally:
            self.stop()

    def _goes_on(self) -> bool:
        with self._lock:
            waiting = [name for name in self._stored if self.is_ready(name)]
            if len(waiting) < len(self._stored):
                self._left += len(self._stored) - len(waiting)
                self._stored = waiting
                self._moved = time.monotonic()
            if not self._waiting:
                self._scan()
            if self._left >= 1:
                self._start_threads()
            return self._running > 0 or (bool(self._waiting) and time.monotonic() - self._moved < PATIENCE)


def push_ahead(context: "Context", path: str, target: str = "") -> None:
    """The whole command, after the file at `path`."""
    directory, name = os.path.split(path)
    pusher = Pusher(context, context.write_storage(target), directory)
    workers: int = context.config.get("WALG_UPLOAD_CONCURRENCY")
    limit: int = context.config.get("TOTAL_BG_UPLOADED_LIMIT")
    if not is_wanted(pusher) or not os.path.isdir(pusher.turns.folder or ""):
        return
    lock = detached.alone(_lock(pusher))
    if lock is None:
        log.debug("another wal-push-ahead is at work")
        return
    try:
        Ahead(pusher, name, workers, limit).run()
    finally:
        lock.__exit__(None, None, None)
