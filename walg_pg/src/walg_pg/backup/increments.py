"""Increments of data files in WAL-G's format "wi1" (spec/postgres-backup.md 5.1)."""

from __future__ import annotations

import os
import struct

import numpy as np
from walg_core.observe import log

from walg_pg.backup.blocks import BlockMap
from walg_pg.backup.contents import DataFiles, unreadable
from walg_pg.backup.pages import Blocks, Scanner
from walg_pg.backup.walk import Found

MAGIC = b"wi1\x55"
SEGMENT_BYTES = 1 << 30
"""Size in bytes of one segment file of a relation."""


def increment_header(size: int, blocks: Blocks) -> bytes:
    """Magic, full file size in bytes, number of blocks, their numbers within the segment file (ascending)."""
    return MAGIC + struct.pack("<QI", size, len(blocks)) + blocks.astype("<u4").tobytes()


class IncrementContent:
    """An increment as data of a tar entry: header, then the pages. What cannot be read any more becomes zeros."""

    corrupt: tuple[int, tuple[int, ...]] | None = None

    def __init__(self, files: DataFiles, fd: int, path: str, file_size: int, blocks: Blocks, page: int) -> None:
        self.path = path
        self.page = page
        self.blocks = blocks
        self.size = 16 + len(blocks) * (4 + page)
        self._files = files
        self._fd = fd
        self._header = increment_header(file_size, blocks)
        edges = np.flatnonzero(np.diff(blocks.astype(np.int64)) != 1) + 1
        starts = np.concatenate(([0], edges)) if len(blocks) else np.empty(0, np.int64)
        ends = np.append(edges, len(blocks)) if len(blocks) else starts
        self._runs = [(int(blocks[a]) * page, int(b - a) * page) for a, b in zip(starts, ends, strict=True)]
        self._runs.reverse()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty only at the end."""
        if self._header:
            piece, self._header = self._header[:size], self._header[size:]
            return piece
        if not self._runs:
            return b""
        offset, length = self._runs.pop()
        wanted = min(size, length)
        try:
            piece = self._files.read(self._fd, wanted, offset)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if not piece:
            piece = bytes(wanted)
        if len(piece) < length:
            self._runs.append((offset + len(piece), length - len(piece)))
        return piece

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Incrementer:
    """Decides which pages of a candidate file go into the delta: by a block map, or by scanning the file."""

    def __init__(self, files: DataFiles, page: int, since: int, blocks: BlockMap | None) -> None:
        """`since`: the base's start LSN."""
        self.page = page
        self.since = since
        self._files = files
        self._map = blocks
        self._scanner = Scanner(page)

    def is_paged(self, found: Found) -> bool:
        """Whether the file consists of pages with LSNs: a non-empty segment of a relation's main fork."""
        size = found.stat.st_size
        return found.relation is not None and size > 0 and size % self.page == 0

    def content(self, found: Found, fd: int, blocks: Blocks) -> IncrementContent:
        """The increment of these pages."""
        return IncrementContent(self._files, fd, found.path, found.stat.st_size, blocks, self.page)

    def blocks(self, found: Found, fd: int) -> Blocks | None:
        """The page numbers within the file; None when the file must be stored whole."""
        size = found.stat.st_size
        if self._map is not None and found.relation is not None:
            per_segment = SEGMENT_BYTES // self.page
            known = self._map.within(found.relation, found.segment * per_segment, size // self.page)
            if known is not None:
                return known

        def read(view: memoryview, offset: int) -> int:
            return self._files.read_into(fd, view, offset)

        try:
            changed = self._scanner.changed(read, size, self.since)
        except OSError as error:
            raise unreadable(found.path, error) from error
        if changed is None:
            log.warning(f"{found.path} has a page with an invalid header; the file is stored whole")
        return changed
