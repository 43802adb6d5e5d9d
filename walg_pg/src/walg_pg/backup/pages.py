"""Which pages of a data file changed: headers of many pages at once with numpy (spec/postgres-backup.md 5, 5.1).

Page header, little endian (PostgreSQL's storage/bufpage.h): LSN as two uint32 (high, low), checksum, flags, lower,
upper, special, page size and layout version, all uint16.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = 24
SCAN_PIECE = 4 << 20
"""Bytes read at once; small enough to stay in the processor's cache."""

Blocks = NDArray[np.uint32]
Mask = NDArray[np.bool_]


class Headers:
    """The headers of consecutive pages, as columns."""

    __slots__ = ("_half", "_word", "page")

    def __init__(self, data: Any, count: int, page: int) -> None:
        """`data` is a buffer that begins with `count` pages of `page` bytes."""
        pages = np.frombuffer(data, np.uint8, count * page).reshape(count, page)
        heads = np.ascontiguousarray(pages[:, :HEADER])
        self._word = heads.view("<u4")
        self._half = heads.view("<u2")
        self.page = page

    @property
    def lsn(self) -> NDArray[np.uint64]:
        """Each page's LSN."""
        lsn: NDArray[np.uint64] = (self._word[:, 0].astype(np.uint64) << np.uint64(32)) | self._word[:, 1]
        return lsn

    @property
    def checksum(self) -> NDArray[np.uint16]:
        """Each page's stored checksum."""
        return self._half[:, 4]

    @property
    def new(self) -> Mask:
        """Pages that were never initialised (`pd_upper` is 0)."""
        new: Mask = self._half[:, 7] == 0
        return new

    @property
    def sane(self) -> Mask:
        """Pages whose header makes sense; new ones are not among them."""
        half, page = self._half, self.page
        lower, upper, special, version = half[:, 6], half[:, 7], half[:, 8], half[:, 9]
        sane: Mask = (
            (half[:, 5] <= 7)
            & (lower >= HEADER)
            & (lower <= upper)
            & (upper <= special)
            & (special <= page)
            & ((version & 0xFF00) == page & 0xFF00)
            & ((version & 0xFF) <= 5)
        )
        return sane

    @property
    def valid(self) -> Mask:
        """Sane pages with an LSN (pages of unlogged relations have none)."""
        valid: Mask = self.sane & (self.lsn != 0)
        return valid


class Scanner:
    """Finds changed pages of files. One buffer a thread, used again and again."""

    def __init__(self, page: int) -> None:
        self.page = page
        self._local = threading.local()

    def changed(self, read: Callable[[memoryview, int], int], size: int, since: int) -> Blocks | None:
        """Numbers of the pages that are new or whose LSN is at least `since`, ascending; a partial page is ignored.

        `read(buffer, offset)` fills a buffer and returns how much it got, `size` is the file's size in bytes. None:
        there is a page that is neither new nor valid, so that nothing can be said about this file.
        """
        page = self.page
        total = size // page
        found: list[Blocks] = []
        block = 0
        while block < total:
            buffer, view = self._buffer()
            wanted = min(total - block, len(view) // page) * page
            got = _fill(read, view[:wanted], block * page)
            count = got // page
            if not count:
                break
            heads = Headers(buffer, count, page)
            new = heads.new
            if not np.all(new | heads.valid):
                return None
            changed = np.flatnonzero(new | (heads.lsn >= np.uint64(since)))
            if len(changed):
                found.append((changed + block).astype(np.uint32))
            block += count
            if got < wanted:
                break
        return np.concatenate(found) if found else np.empty(0, np.uint32)

    def _buffer(self) -> tuple[bytearray, memoryview]:
        buffer: bytearray | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = bytearray(max(SCAN_PIECE // self.page, 1) * self.page)
        return buffer, memoryview(buffer)


def _fill(read: Callable[[memoryview, int], int], view: memoryview, offset: int) -> int:
    got = 0
    while got < len(view):
        more = read(view[got:], offset + got)
        if not more:
            break
        got += more
    return got
