"""Applying WAL-G's page increments, format "wi1" (spec/postgres-backup.md 5.1)."""

from __future__ import annotations

import os
import re
import sys
from array import array
from bisect import bisect_left
from itertools import pairwise
from typing import Protocol

from walg_core.errors import IntegrityError
from walg_core.io.destination import write_all

MAGIC = b"wi1\x55"
_PAGES_AT_ONCE = 128
_NUMERIC = re.compile(r"^\d+(\.\d+)?$")
BLOCK_LIMIT = 1 << 23
"""Blocks in one increment: those of a segment file of 64 GiB; the usual one has 131072."""


class Source(Protocol):
    """Where an increment comes from: a tar's member, a connection."""

    @property
    def left(self) -> int:
        """Bytes that are still to come."""

    def read_exactly(self, size: int, /) -> bytes:
        """Exactly so many bytes. Raises IntegrityError."""


def is_orioledb(name: str) -> bool:
    """Whether increments of this file carry a page size of their own."""
    return "orioledb_data" in name and bool(_NUMERIC.match(name.rpartition("/")[2]))


class Increment:
    """The header of an increment: file size in bytes, page size, block numbers in ascending order."""

    __slots__ = ("blocks", "page_size", "size")

    def __init__(self, size: int, page_size: int, blocks: array[int]) -> None:
        self.size = size
        self.page_size = page_size
        self.blocks = blocks


def read_header(archive: Source, name: str, page_size: int, size_limit: int) -> Increment:
    """Read and check the header; the pages follow in the archive. Raises IntegrityError.

    `size_limit` is the largest believable file size in bytes.
    """
    start = archive.read_exactly(12)
    if start[:3] != MAGIC[:3] or start[3:4] != MAGIC[3:]:
        raise IntegrityError(f"{name}: this is not an increment: it starts with {start[:4]!r} instead of {MAGIC!r}")
    size = int.from_bytes(start[4:12], "little")
    if is_orioledb(name):
        page_size = int.from_bytes(archive.read_exactly(2), "little")
        if page_size not in (512, 8192):
            raise IntegrityError(f"{name}: an increment with pages of {page_size} bytes")
    count = int.from_bytes(archive.read_exactly(4), "little")
    if size > size_limit:
        raise IntegrityError(f"{name}: the increment claims a file of {size} bytes, more than the whole cluster has")
    if count > BLOCK_LIMIT or archive.left != count * (4 + page_size):
        raise IntegrityError(f"{name}: the increment announces {count} pages but holds {archive.left} bytes")
    blocks = array("I", archive.read_exactly(4 * count))
    if sys.byteorder == "big":
        blocks.byteswap()
    if any(after <= before for before, after in pairwise(blocks)):
        raise IntegrityError(f"{name}: the increment's block numbers do not ascend")
    return Increment(size, page_size, blocks)


def apply(archive: Source, increment: Increment, fd: int, name: str) -> None:
    """Set the file's size, then write every page in its place. Raises IntegrityError, OSError.

    Pages past the stored size are read over: Go WAL-G scans a file to its present end but stores the size that
    it had earlier, so a file that grew in between has them. WAL replay makes these pages again, as it does those
    past the end of a file stored whole.
    """
    os.ftruncate(fd, increment.size)
    page, blocks, at = increment.page_size, increment.blocks, 0
    inside = bisect_left(blocks, increment.size // page)
    while at < inside:
        run = 1
        while run < _PAGES_AT_ONCE and at + run < inside and blocks[at + run] == blocks[at] + run:
            run += 1
        write_all(fd, archive.read_exactly(run * page), name, blocks[at] * page)
        at += run
    while at < len(blocks):
        run = min(_PAGES_AT_ONCE, len(blocks) - at)
        archive.read_exactly(run * page)
        at += run
