"""Looking ahead: the segments that wait behind the one that was asked for are uploaded before their turn comes.

What is known of them lives in memory only. An answer still comes only for a file that is durably stored and has not
changed since: everything else is uploaded when it is asked for, as if nobody had looked ahead.
"""

from __future__ import annotations

import os
import threading

from walg_core.context import Context
from walg_core.errors import WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_pg.journal.push import Pusher
from walg_pg.journal.recorder import Recorder
from walg_pg.lsn import NotASegmentName, next_segment_name


class Ahead:
    """Pushes files, and in at most `WALG_UPLOAD_CONCURRENCY` - 1 threads those that follow. Threads may share it.

    At most `TOTAL_BG_UPLOADED_LIMIT` - 1 segments behind the one asked for last are looked at.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._workers = int(context.config.get("WALG_UPLOAD_CONCURRENCY")) - 1
        self._limit = int(context.config.get("TOTAL_BG_UPLOADED_LIMIT")) - 1
        self._change = threading.Condition()
        self._recorders: dict[str, Recorder] = {}
        self._waiting: dict[str, Pusher] = {}
        self._running: set[str] = set()
        self._stored: dict[str, str] = {}
        self._threads = 0
        self._stopped = False

    def push(self, path: str) -> None:
        """As `wal-push` does it; on return the file is durably archived."""
        directory, name = os.path.split(path)
        pusher = self._pusher(self._context.write_storage(), directory)
        self._follow(pusher, name)
        if not self._is_stored(pusher, name):
            self._upload(pusher, name, path)
        pusher.markers.remove(name)
        pusher.push_metadata(name)
        if pusher.recorder:
            pusher.recorder.flush(self._context, pusher.wal)

    def stop(self) -> None:
        """Begin no further upload."""
        with self._change:
            self._stopped = True
            self._waiting.clear()

    def wait(self, seconds: float) -> bool:
        """Wait for the uploads that run; False when the time is over before."""
        with self._change:
            return self._change.wait_for(lambda: not self._threads, seconds)

    def _pusher(self, storage: Storage, directory: str) -> Pusher:
        """A new one for each request: the cluster may be another by now. Unfinished deltas have one owner."""
        pusher = Pusher(self._context, storage, directory)
        if pusher.recorder:
            with self._change:
                pusher.recorder = self._recorders.setdefault(directory, pusher.recorder)
        return pusher

    def _follow(self, pusher: Pusher, name: str) -> None:
        """Offer the segments behind `name` that are ready, and forget what lies elsewhere."""
        status = os.path.join(pusher.directory, "archive_status")
        wanted: list[str] = []
        following = name
        while len(wanted) < self._limit:
            try:
                following = next_segment_name(following, pusher.segment_size)
            except NotASegmentName:
                break
            if not os.path.exists(os.path.join(status, f"{following}.ready")):
                break
            wanted.append(following)
        with self._change:
            near = {os.path.join(pusher.directory, each) for each in (name, *wanted)}
            self._stored = {path: identity for path, identity in self._stored.items() if path in near}
            if self._stopped:
                return
            for each in wanted:
                path = os.path.join(pusher.directory, each)
                if path not in self._stored and path not in self._running:
                    self._waiting.setdefault(path, pusher)
            while self._threads < min(self._workers, pusher.at_once, len(self._waiting)):
                self._threads += 1
                threading.Thread(target=self._work, name="ahead", daemon=True).start()

    def _is_stored(self, pusher: Pusher, name: str) -> bool:
        """Whether the file was stored already and is still the same. If not, it is the caller's to upload.

        Waits while it is on its way: ahead of its turn, or for an earlier request that nobody waits for any more.
        """
        path = os.path.join(pusher.directory, name)
        with self._change:
            self._change.wait_for(lambda: path not in self._running)
            self._waiting.pop(path, None)
            stored = self._stored.pop(path, None)
            try:
                if stored is not None and stored == pusher.markers.identity(path, pusher.storage):
                    self._stored[path] = stored
                    return True
            except OSError as error:
                log.debug(f"{path} cannot be looked at: {error}")
            self._running.add(path)
            return False

    def _work(self) -> None:
        try:
            while (job := self._begin()) is not None:
                path, pusher = job
                name = os.path.basename(path)
                try:
                    self._upload(pusher, name, path)
                    pusher.rename_ready(name)
                except (WalgError, OSError) as error:
                    # The request for the file will meet it again.
                    log.warning(f"{name} was not uploaded ahead of its turn: {error}")
        finally:
            with self._change:
                self._threads -= 1
                self._change.notify_all()

    def _begin(self) -> tuple[str, Pusher] | None:
        with self._change:
            if self._stopped or not self._waiting:
                return None
            path = next(iter(self._waiting))
            self._running.add(path)
            return path, self._waiting.pop(path)

    def _upload(self, pusher: Pusher, name: str, path: str) -> None:
        """Store the file, which is noted as running, and note what was stored."""
        identity = None
        try:
            before = pusher.markers.identity(path, pusher.storage) if os.path.exists(path) else None
            if not pusher.is_marked(name):
                pusher.upload(name)
            identity = before
        finally:
            with self._change:
                self._running.discard(path)
                if identity is not None:
                    self._stored[path] = identity
                self._change.notify_all()
