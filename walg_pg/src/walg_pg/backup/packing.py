"""What becomes of each found file: skipped, stored as an increment, or stored whole (spec/postgres-backup.md 5)."""

from __future__ import annotations

from walg_core.backups import times
from walg_core.observe import log

from walg_pg.backup.contents import DataFiles, FileContent
from walg_pg.backup.parts import Content, Packed
from walg_pg.backup.walk import Found, Headers
from walg_pg.sentinel import FileEntry


class Packer:
    """Turns found entries into tar entries. Used by several threads at once."""

    def __init__(self, files: DataFiles) -> None:
        self.files = files
        self.headers = Headers()

    def pack(self, found: Found) -> Packed | None:
        """None: the file vanished before it was opened."""
        entry = FileEntry(mtime=times.format_local(found.mtime))
        if not found.is_file:
            return Packed(self.headers.make(found, 0), None, entry)
        return self.whole(found, entry)

    def whole(self, found: Found, entry: FileEntry) -> Packed | None:
        """The complete file, as long as it was during the walk."""
        size = found.stat.st_size
        content = self.open(found)
        return Packed(self.headers.make(found, size), content, entry) if content else None

    def open(self, found: Found) -> Content | None:
        """Its data; None with a warning when it has vanished."""
        try:
            fd = self.files.open(found.path)
        except FileNotFoundError:
            log.warning(f"{found.path} vanished during the backup; its last state is in the WAL")
            return None
        return FileContent(self.files, fd, found.path, found.stat.st_size)
