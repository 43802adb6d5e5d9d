"""wal-push: one file into the archive, and while at it those that wait behind it (spec/postgres-wal.md 4)."""

import os

from walg_core.errors import ObjectExists, ObjectNotFound, WalgError
from walg_core.io import atomic
from walg_core.observe import log
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import CHUNK, read_exactly

from walg_pg.journal import place, segment
from walg_pg.journal.markers import Markers
from walg_pg.journal.packed import FileReader, Packed, memory
from walg_pg.journal.turns import Turn, Turns
from walg_pg.lsn import is_segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

    from walg_pg.journal.recorder import Recorder


AHEAD = 8 << 20
"""Bytes that one upload holds while it streams: the pieces that are packed ahead, before and after."""


class AlreadyArchived(WalgError):
    """The archive has a different file of that name; it is never replaced."""


class Pusher:
    """Pushes files of one WAL directory into one storage. Threads may share it."""

    def __init__(self, context: "Context", storage: "Storage", directory: str) -> None:
        self.context = context
        self.storage = storage
        self.wal = storage.folder(place.FOLDER)
        self.directory = directory
        local = place.wal_directory(context.config, directory)
        self.markers = Markers(place.marker_folder(local) if local else None)
        self.local = local
        alone = not context.config.get("WALG_WAL_PUSH_AHEAD")
        self.turns = Turns(None if alone else self.markers.folder)
        self.segment_size = place.segment_size(context.config)
        self.check_header = bool(context.config.get("WALG_CHECK_WAL_HEADER"))
        self.prevent = bool(context.config.get("WALG_PREVENT_WAL_OVERWRITE"))
        data = context.config.get("PGDATA")
        control = place.read_control(data) if data and self.check_header else None
        self.system = control[0] if control else None
        self.renames = bool(context.config.get("PG_READY_RENAME"))
        memory.limit = context.config.get("WALG_WAL_PUSH_MEMORY")
        # More threads than fit into the memory would only wait, each with a heap of its own.
        self.at_once = max(1, memory.limit // AHEAD) if self.wal.file_system else 1 << 30
        self.recorder = self._recorder() if context.config.get("WALG_USE_WAL_DELTA") else None

    def _recorder(self) -> "Recorder | None":
        if self.local is None:
            log.warning("WALG_USE_WAL_DELTA needs PGDATA to keep unfinished deltas; nothing is recorded")
            return None
        from walg_pg.journal.recorder import Recorder

        page_size: int = self.context.config.get("WALG_PG_WAL_PAGE_SIZE")
        return Recorder(place.data_folder(self.local), self.segment_size, page_size)

    def upload(self, name: str) -> None:
        """Store the file; on return it is durable. Raises AlreadyArchived, IntegrityError, any StorageError."""
        path = os.path.join(self.directory, name)
        prevent = self.prevent or name.endswith(".history")
        source = self._open(path, name)
        try:
            if prevent and self._same_is_archived(name, path):
                return
            stored = self._store(name, source, prevent)
        except ObjectExists:
            # Another one was faster, or the answer to an earlier try of ours was lost: the content decides.
            if not self._same_is_archived(name, path):
                raise
            return
        finally:
            source.close()
        log.info(f"FILE PATH: {stored}")
        if self.recorder:
            self.recorder.record(path)

    def _open(self, path: str, name: str) -> FileReader:
        try:
            source = FileReader(path)
        except OSError as error:
            raise WalgError(
                f"cannot read {path}: {error.strerror}", hint="archive_command gets the path as %p, relative to PGDATA"
            ) from error
        if self.check_header and is_segment_name(name):
            try:
                head = source.head(segment.HEADER_SIZE)
                segment.check(name, head, source.size, self.segment_size, path, self.system)
            except BaseException:
                source.close()
                raise
        return source

    def _store(self, name: str, source: FileReader, prevent: bool) -> str:
        # A file system takes the pieces as they come; other drivers may hold a whole segment for their request.
        body = Packed(self.context, source, memory, AHEAD if self.wal.file_system else source.size)
        try:
            only_new = prevent and self.wal.capabilities.put_if_absent
            self.wal.put(name + body.extension, body, None, only_new)
        finally:
            body.close()
        return name + body.extension

    def _same_is_archived(self, name: str, path: str) -> bool:
        """Whether an equal file is archived. Raises AlreadyArchived for a different one."""
        try:
            archived, _ = transfer.open_by_name(self.context, self.wal, name)
        except ObjectNotFound:
            return False
        mine = FileReader(path)
        try:
            while True:
                left, right = read_exactly(mine, CHUNK), read_exactly(archived, CHUNK)
                if left != right:
                    raise AlreadyArchived(
                        f"WAL file '{path}' already archived, contents differ, unable to overwrite",
                        hint="another cluster writes to this archive, or this one was reset: use another prefix",
                    )
                if not left:
                    break
        finally:
            mine.close()
            archived.close()
        log.info(f"WAL file '{path}' already archived with equal content, skipping")
        return True

    def is_marked(self, name: str) -> bool:
        """Whether a background upload has stored this very file in this very storage."""
        path = os.path.join(self.directory, name)
        try:
            held = self.markers.holds(name, path, self.storage)
        except OSError:
            return False
        if held is None:
            # The original's marker says nothing about the file, so the archive itself is asked.
            try:
                transfer.find(self.context, self.wal, name)
            except ObjectNotFound:
                return False
            return True
        return held

    def mark(self, name: str) -> bool:
        """Leave a marker for PostgreSQL's own call."""
        return self.markers.make(name, os.path.join(self.directory, name), self.storage)

    def rename_ready(self, name: str) -> None:
        """`PG_READY_RENAME`: tell PostgreSQL at once that the file is archived, once it is durable."""
        if not self.renames or not self.local:
            return
        ready = os.path.join(self.local, "archive_status", name)
        try:
            atomic.rename(ready + ".ready", ready + ".done")
        except OSError as error:
            log.error(f"{name}.ready could not be renamed: {error}")
            return
        # PostgreSQL will not ask for it.
        self.markers.remove(name)

    def push_metadata(self, name: str) -> None:
        """What `WALG_UPLOAD_WAL_METADATA` asks for."""
        if self.context.config.get("WALG_UPLOAD_WAL_METADATA") != "NOMETADATA":
            from walg_pg.journal import metadata

            metadata.push(self.context.config, self.wal, os.path.join(self.directory, name))


def push(context: "Context", path: str, target: str = "") -> None:
    """The whole command for the file at `path`. On return the file is durably archived."""
    name = os.path.basename(path)
    directory = os.path.dirname(path)
    if not name:
        raise WalgError(f"{path!r} names no file")
    concurrency: int = context.config.get("WALG_UPLOAD_CONCURRENCY")
    context.config.get("WALG_UPLOAD_WAL_METADATA")  # a bad value is told before anything is uploaded
    storage = context.write_storage(target)
    log.info(f"Files will be uploaded to storage: {storage.name}")
    pusher = Pusher(context, storage, directory)
    turn = _turn(pusher, name)
    if turn is None:
        pusher.markers.remove(name)
        pusher.push_metadata(name)
        return
    from walg_pg.journal import push_ahead
    from walg_pg.journal.background import Background

    busy = push_ahead.is_running(pusher)
    limit: int = context.config.get("TOTAL_BG_UPLOADED_LIMIT")
    background = Background(pusher, name, 0 if busy else concurrency - 1, limit - 1)
    try:
        pusher.upload(name)
        pusher.push_metadata(name)
    finally:
        background.stop()
        turn.release()
    if pusher.recorder:
        pusher.recorder.flush(context, pusher.wal)
    elif not busy and push_ahead.is_wanted(pusher) and background.leaves_many():
        push_ahead.start(context, path, target)


def _turn(pusher: Pusher, name: str) -> Turn | None:
    """The turn of the file, or None when it is archived already: somebody may just be about to finish it."""
    while True:
        free = pusher.turns.wait(name)
        if pusher.is_marked(name):
            return None
        turn = pusher.turns.take(name) if free else Turn()
        if turn:
            return turn
