"""Reading a part to its end and checking all that can be checked without a destination."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from walg_core.errors import IntegrityError
from walg_core.pipeline import untar

from walg_pg.backup.checksums import checksums
from walg_pg.backup.pages import Headers
from walg_pg.restore import increments
from walg_pg.restore.chain import Link, bare
from walg_pg.restore.source import Download, open_part
from walg_pg.restore.stamps import rounded_seconds

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.pipeline.untar import Archive, Member
    from walg_core.storage.api import ObjectInfo

_PAGES_AT_ONCE = 128
_SEGMENT_BYTES = 1 << 30


class PartCheck:
    """Checks one part: codec, tar, members against the file list, pages. `bad_pages`: (file, how many)."""

    def __init__(self, context: Context, link: Link) -> None:
        self._context = context
        self._link = link
        self._page = int(context.config.get("WALG_PG_BLOCK_SIZE"))
        self._retries = max(0, int(context.config.get("WALG_DOWNLOAD_FILE_RETRIES")))
        self.pages = 0
        self.bad_pages: list[tuple[str, int]] = []

    def read(self, part: ObjectInfo) -> None:
        """Raises IntegrityError for damage, StorageError when it cannot be read."""
        download = Download(self._link.backup.storage, part, retries=self._retries)
        reader = open_part(self._context, download, part.key)
        seen = set()
        try:
            archive = untar.Archive(reader, part.key)
            for member in archive:
                name = os.fsdecode(member.name)
                seen.add(name)
                if member.kind == untar.FILE:
                    self._file(archive, member, name)
        finally:
            reader.close()
        self._complete(part.key, seen)

    def _complete(self, key: str, seen: set[str]) -> None:
        files = self._link.files
        expected = files.tar_sets.get(key.rpartition("/")[2]) if files else None
        if files is None or expected is None:
            return
        foreign = seen.difference(expected)
        lost = [name for name in set(expected) - seen if name in files.files and not files.files[name].skipped]
        if foreign or lost:
            raise IntegrityError(
                f"its members are not those of the file list: {len(foreign)} too many, {len(lost)} missing"
            )

    def _file(self, archive: Archive, member: Member, name: str) -> None:
        entry = self._link.files.files.get(name) if self._link.files else None
        if entry is not None and entry.mtime and abs(rounded_seconds(entry.mtime) - member.mtime) > 1:
            raise IntegrityError(f"{name} was modified at another time than the file list says: swapped parts")
        if entry is not None and entry.incremented:
            header = increments.read_header(archive, name, self._page, 1 << 50)
            if header.page_size == self._page:
                self._check_pages(archive, name, np.array(header.blocks, np.uint32))
        elif self._is_paged(name, member.size):
            self._check_pages(archive, name, np.arange(member.size // self._page, dtype=np.uint32))

    def _is_paged(self, name: str, size: int) -> bool:
        parts = bare(name).split("/")
        number = parts[-1].partition(".")[0]
        inside = parts[0] in ("base", "pg_tblspc") and len(parts) > 2
        return inside and number.isdigit() and size > 0 and size % self._page == 0 and "orioledb_data" not in parts

    def _check_pages(self, archive: Archive, name: str, blocks: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> None:
        """Pages with a stored checksum and an LSN before the backup; later ones are written again by recovery."""
        _, _, suffix = name.rpartition("/")[2].partition(".")
        first = int(suffix) * (_SEGMENT_BYTES // self._page) if suffix.isdigit() else 0
        start, bad = self._link.sentinel.start_lsn or 0, 0
        for at in range(0, len(blocks), _PAGES_AT_ONCE):
            some = blocks[at : at + _PAGES_AT_ONCE]
            data = archive.read_exactly(len(some) * self._page)
            heads = Headers(data, len(some), self._page)
            if not heads.checksum.any():
                self.pages += len(some)
                continue
            wrong = (heads.checksum != 0) & (
                heads.checksum != checksums(data, len(some), self._page, some + np.uint32(first))
            )
            bad += int(np.count_nonzero(wrong & ~heads.new & (heads.lsn < np.uint64(start))))
            self.pages += len(some)
        if bad:
            self.bad_pages.append((name, bad))
