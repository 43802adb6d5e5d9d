"""While one file is pushed, those that are ready behind it go too (spec/postgres-wal.md 4.2)."""

import _thread
import os
import time

from walg_core.errors import WalgError
from walg_core.observe import log

from walg_pg.lsn import NotASegmentName, next_segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_pg.journal.push import Pusher

READY = ".ready"
SCAN_INTERVAL = 0.1
"""Seconds between two looks at the status directory."""
MANY = 4
"""Files that wait at once from which it is a burst."""


class Background:
    """Uploads ready files with at most `workers` threads and `limit` files until `stop`, which waits for the running.

    No thread starts before something is ready.
    """

    def __init__(self, pusher: "Pusher", pushed: str, workers: int, limit: int) -> None:
        self.pusher = pusher
        self._status = os.path.join(pusher.directory, "archive_status")
        self._workers = min(workers, pusher.at_once)
        self._left = limit
        self._attempted = {pushed}
        self._waiting: list[str] = []
        self._lock = _thread.allocate_lock()
        self._running = 0
        self._stopped = False
        self._scan_again = 0.0
        if workers >= 1 and limit >= 1:
            self._follow(pushed, limit)
            if len(self._waiting) >= MANY:
                from walg_core.pipeline.heap import keep_freed_memory

                keep_freed_memory()
            self._scan_again = time.monotonic() + SCAN_INTERVAL
            self._start_threads()

    def _follow(self, name: str, limit: int) -> None:
        """The segments that come right after the pushed one."""
        for _ in range(limit):
            try:
                name = next_segment_name(name, self.pusher.segment_size)
            except NotASegmentName:
                return
            if not self.is_ready(name):
                return
            self._offer(name)

    def is_ready(self, name: str) -> bool:
        """Whether PostgreSQL still waits for the file to be archived."""
        return os.path.exists(os.path.join(self._status, name + READY))

    def _scan(self) -> None:
        self._scan_again = time.monotonic() + SCAN_INTERVAL
        try:
            names = sorted(os.listdir(self._status))
        except OSError as error:
            log.error(f"Error of parallel upload: {error}")
            self._workers = 0
            return
        for name in names:
            if name.endswith(READY):
                self._offer(name[: -len(READY)])

    def _offer(self, name: str) -> None:
        if name not in self._attempted:
            self._attempted.add(name)
            self._waiting.append(name)

    def _start_threads(self) -> None:
        while self._running < min(self._workers, len(self._waiting)):
            self._running += 1
            _thread.start_new_thread(self._work, ())

    def _next(self) -> str | None:
        with self._lock:
            if self._stopped or self._left < 1:
                return None
            if not self._waiting and time.monotonic() >= self._scan_again:
                self._scan()
            if not self._waiting:
                return None
            self._left -= 1
            return self._waiting.pop(0)

    def _work(self) -> None:
        try:
            while (name := self._next()) is not None:
                stored = False
                try:
                    stored = self._upload(name)
                finally:
                    with self._lock:
                        self._account(name, stored)
        finally:
            with self._lock:
                self._running -= 1

    def _account(self, name: str, stored: bool) -> None:  # noqa: ARG002 - who counts otherwise needs the name
        """What was not stored takes nobody's place."""
        self._left += not stored

    def _upload(self, name: str) -> bool:
        """Store the file and leave its marker; False when somebody else has done it, does it, or it failed."""
        pusher = self.pusher
        turn = pusher.turns.take(name)
        if turn is None:
            return False
        try:
            if not self.is_ready(name) or pusher.is_marked(name):
                return False
            pusher.upload(name)
            if pusher.mark(name):
                pusher.rename_ready(name)
        except (WalgError, OSError) as error:
            log.error(f"Error of background uploader: {error}")
            return False
        finally:
            turn.release()
        return True

    def stop(self) -> None:
        """Take no further file and wait for those in flight."""
        with self._lock:
            self._stopped = True
        while True:
            with self._lock:
                if not self._running:
                    return
            time.sleep(0.001)

    def leaves_many(self) -> bool:
        """Once stopped: whether a burst of files still waits."""
        if self._left < 1 or self._waiting:
            # Only so many as might be uploaded were looked for.
            self._scan()
        return len(self._waiting) >= MANY
