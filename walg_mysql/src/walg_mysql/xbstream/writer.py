"""Making an xbstream (spec/mysql.md 10), readable by the tools' own extractors."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from walg_core.pipeline.reader import Reader, read_exactly

from walg_mysql.xbstream.chunks import END, MAGIC, MAX_PATH, PAYLOAD, SPARSE

CHUNK_SIZE = 10 << 20
"""Bytes of a chunk, as the tools make them."""

Holes = Sequence[tuple[int, int]]
"""`(start, end)` of a file's holes in bytes, ascending, not touching."""


def data_chunk(path: str, offset: int, payload: bytes) -> bytes:
    """The bytes of one `P` chunk."""
    return _head(path, PAYLOAD) + struct.pack("<QQI", len(payload), offset, zlib.crc32(payload)) + payload


def sparse_chunk(path: str, offset: int, pairs: Iterable[tuple[int, int]], payload: bytes) -> bytes:
    """The bytes of one `S` chunk; `pairs` are `(skip, write)` from `offset` on, the writes add up to the payload."""
    table = [struct.pack("<II", *pair) for pair in pairs]
    packed = b"".join(table)
    head = _head(path, SPARSE) + struct.pack("<I", len(table))
    checksum = zlib.crc32(payload, zlib.crc32(packed))
    return head + struct.pack("<QQI", len(payload), offset, checksum) + packed + payload


def end_chunk(path: str) -> bytes:
    """The bytes of the chunk that ends a file."""
    return _head(path, END)


def _head(path: str, kind: int) -> bytes:
    name = path.encode("utf-8", "surrogateescape")
    if not 0 < len(name) <= MAX_PATH:
        raise ValueError(f"a path of {len(name)} bytes does not fit into an xbstream")
    return MAGIC + struct.pack("<BBI", 0, kind, len(name)) + name


class Writer:
    """Hands the chunks of files, one after the other, to `put`. The stream has no end mark."""

    def __init__(self, put: Callable[[bytes], object], chunk_size: int = CHUNK_SIZE) -> None:
        self._put = put
        self._size = chunk_size

    def add(self, path: str, source: Reader, holes: Holes = ()) -> int:
        """One file; `holes` are left out. Returns its size in bytes with the holes. Does not close `source`.

        `source` gives the bytes between the holes only.
        """
        offset = 0
        for begin, end in _extents(holes):
            if begin > offset:
                offset = self._data(path, source, offset, begin - offset)
            for at in range(begin, end, 1 << 31):
                self._put(sparse_chunk(path, at, [(min(end - at, 1 << 31), 0)], b""))
            offset = end
        offset = self._data(path, source, offset, -1)
        self._put(end_chunk(path))
        return offset

    def _data(self, path: str, source: Reader, offset: int, left: int) -> int:
        while left:
            piece = read_exactly(source, self._size if left < 0 else min(left, self._size))
            if not piece:
                if left > 0:
                    raise ValueError(f"{path} ends at {offset}, before its next hole")
                break
            self._put(data_chunk(path, offset, piece))
            offset += len(piece)
            left = left if left < 0 else left - len(piece)
        return offset


def _extents(holes: Holes) -> Holes:
    if any(begin >= end for begin, end in holes) or any(a[1] >= b[0] for a, b in pairwise(holes)):
        raise ValueError("holes must be ascending, not empty, and not touch")
    return holes
