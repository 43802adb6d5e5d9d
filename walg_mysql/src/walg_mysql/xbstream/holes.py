"""Holes in files: given back to the file system where it can, and InnoDB's page compression (spec/mysql.md 10)."""

from __future__ import annotations

import ctypes
import os
import sys

from walg_core.pipeline.reader import CHUNK

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_LIBRARY = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
PAGE_COMPRESSED = 14
_PAGE_HEADER = 38
_FULL_CRC32 = 0x10


def punch(fd: int, offset: int, length: int) -> bool:
    """Make `length` bytes at `offset` read as zeros without taking room; False where the system cannot, or for none."""
    if length <= 0 or _LIBRARY is None:
        return False
    mode = _KEEP_SIZE | _PUNCH_HOLE
    return not _LIBRARY.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))


def page_size_of(flags: int) -> int:
    """The page size in bytes that a tablespace's flags tell; 0 for MariaDB's full_crc32 files, which have no such
    pages."""
    if flags & _FULL_CRC32:
        return 0
    shift = flags >> 6 & 15
    return 512 << shift if shift else 16384


def repunch(fd: int) -> int:
    """Punch the unused ends of a tablespace's compressed pages again; returns how many were.

    A page of type 14 keeps its 38-byte header and its compressed size (at offset 32), up to the file system's next
    block. Nothing is read as pages that is not a whole number of them.
    """
    first = os.pread(fd, 64, 0)
    size = page_size_of(int.from_bytes(first[54:58], "big")) if len(first) == 64 else 0
    total = os.fstat(fd).st_size
    if not size or total % size or size > 65536:
        return 0
    block = os.fstatvfs(fd).f_bsize
    count = 0
    for start in range(0, total, CHUNK):
        data = os.pread(fd, CHUNK, start)
        # Most files have no such page: two strided slices tell without looking at each page.
        if PAGE_COMPRESSED not in data[25::size]:
            continue
        for at in range(size if start == 0 else 0, len(data), size):
            if int.from_bytes(data[at + 24 : at + 26], "big") != PAGE_COMPRESSED:
                continue
            keep = -(-(_PAGE_HEADER + int.from_bytes(data[at + 32 : at + 34], "big")) // block) * block
            if keep < size and punch(fd, start + at + keep, size - keep):
                count += 1
    return count
