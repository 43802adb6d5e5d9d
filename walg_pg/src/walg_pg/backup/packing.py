"""What becomes of each found file: skipped, stored as an increment, or stored whole (spec/postgres-backup.md 5)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from walg_core.backups import times
from walg_core.observe import log

from walg_pg.backup.contents import DataFiles, FileContent
from walg_pg.backup.parts import Content, Packed
from walg_pg.backup.walk import Found, Headers
from walg_pg.sentinel import FileEntry

if TYPE_CHECKING:
    # Deltas and verification need numpy, which takes a tenth of a second to import; a plain full backup does not.
    from walg_pg.backup.base import Base
    from walg_pg.backup.increments import Incrementer
    from walg_pg.backup.verification import Verification


class Packer:
    """Turns found entries into tar entries. Used by several threads at once."""

    def __init__(
        self,
        files: DataFiles,
        base: Base | None = None,
        incrementer: Incrementer | None = None,
        verification: Verification | None = None,
    ) -> None:
        self.files = files
        self.headers = Headers()
        self._base = base
        self._incrementer = incrementer
        self._verification = verification

    def pack(self, found: Found) -> Packed | None:
        """None: the file vanished before it was opened."""
        mtime = times.format_local(found.mtime)
        if not found.is_file:
            return Packed(self.headers.make(found, 0), None, FileEntry(mtime=mtime, updates=found.updates))
        in_base = self._base is not None and found.name in self._base.files
        if self._base and self._base.take(found.name, found.mtime):
            return Packed(b"", None, FileEntry(False, True, mtime, found.updates))
        try:
            fd = self.files.open(found.path)
        except FileNotFoundError:
            log.warning(f"{found.path} vanished during the backup; its last state is in the WAL")
            return None
        try:
            content, incremented = self._content(found, fd, in_base)
        except BaseException:
            os.close(fd)
            raise
        entry = FileEntry(incremented, False, mtime, found.updates)
        return Packed(self.headers.make(found, content.size), content, entry)

    def _content(self, found: Found, fd: int, in_base: bool) -> tuple[Content, bool]:
        """The data to store, and whether it is an increment."""
        size, verification = found.stat.st_size, self._verification
        if self._incrementer and in_base and self._incrementer.is_paged(found):
            blocks = self._incrementer.blocks(found, fd)
            if blocks is not None:
                increment = self._incrementer.content(found, fd, blocks)
                return (verification.increment(increment, found, fd) if verification else increment), True
        whole = FileContent(self.files, fd, found.path, size)
        return (verification.whole(whole, found, fd) if verification else whole), False
