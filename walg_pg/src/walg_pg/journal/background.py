"""While one file is pushed, those that are ready behind it go too (spec/postgres-wal.md 4.2)."""

import _thread
import os
import time
from collections import deque

from walg_core.errors import WalgError
from walg_core.observe import log

from walg_pg.lsn import NotASegmentName, next_segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_pg.journal.push import Pusher

READY = ".ready"
SCAN_INTERVAL = 0.1
"""Seconds between two looks at the status directory."""
_MANY = 4


class Background:
    """Uploads ready files with at most `workers` threads and `limit` files until `stop`, which waits for the running.

    No thread starts before something is ready.
    """

    def __init__(self, pusher: "Pusher", pushed: str, workers: int, limit: int) -> None:
        self._pusher = pusher
        self._status = os.path.join(pusher.directory, "archive_status")
        self._workers = min(workers, pusher.at_once)
        self._left = limit
        self._attempted = {pushed}
        self._waiting: deque[str] = deque()
        self._lock = _thread.allocate_lock()
        self._running = 0
        self._stopped = False
        if workers >= 1 and limit >= 1:
            self._follow(pushed, limit)
            if len(self._waiting) >= _MANY:
                from walg_core.pipeline.heap import keep_freed_memory

                keep_freed_memory()
            self._scan_again = time.monotonic() + SCAN_INTERVAL
            self._start_threads()

    def _follow(self, name: str, limit: int) -> None:
        """The segments that come right after the pushed one."""
        for _ in range(limit):
            try:
                name = next_segment_name(name, self._pusher.segment_size)
            except NotASegmentName:
                return
            if not os.path.exists(os.path.join(self._status, name + READY)):
                return
            self._offer(name)

    def _scan(self) -> None:
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
                self._scan_again = time.monotonic() + SCAN_INTERVAL
                self._scan()
            if not self._waiting:
                return None
            self._left -= 1
            return self._waiting.popleft()

    def _work(self) -> None:
        try:
            while (name := self._next()) is not None:
                self._upload(name)
        finally:
            with self._lock:
                self._running -= 1

    def _upload(self, name: str) -> None:
        pusher = self._pusher
        try:
            if pusher.is_marked(name):
                # It was uploaded by an earlier run and takes nobody's place.
                with self._lock:
                    self._left += 1
                return
            pusher.upload(name)
        except (WalgError, OSError) as error:
            log.error(f"Error of background uploader: {error}")
            with self._lock:
                self._left += 1
            return
        if pusher.mark(name):
            pusher.rename_ready(name)

    def stop(self) -> None:
        """Take no further file and wait for those in flight."""
        with self._lock:
            self._stopped = True
        while True:
            with self._lock:
                if not self._running:
                    return
            time.sleep(0.001)
