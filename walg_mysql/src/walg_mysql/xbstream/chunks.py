"""The chunks of an xbstream, read and written (spec/mysql.md 10). Integers are little-endian.

Unlike the original, every checksum is verified and a stream cut anywhere is an error. Payloads pass in pieces of at
most 1 MiB, whatever the size of a chunk.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import CHUNK, Reader, read_exactly

MAGIC = b"XBSTCK01"
PAYLOAD, SPARSE, END = ord("P"), ord("S"), ord("E")
IGNORABLE = 0x01
MAX_PATH = 512
MAX_SPARSE = 1 << 20

_HEAD = struct.Struct("<BBI")
_SIZES = struct.Struct("<QQI")
_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk. `offset` is where its `size` bytes belong in the file; `sparse` are `(skip, write)` byte counts.

    `pieces` gives the payload once, and raises IntegrityError at its end when the checksum does not match. The next
    chunk begins where it ends: what a reader leaves of it is skipped, checked all the same.
    """

    path: str
    kind: int
    offset: int = 0
    size: int = 0
    sparse: tuple[tuple[int, int], ...] = ()
    pieces: Iterator[bytes] = field(default=iter(()), compare=False)

    def payload(self) -> bytes:
        """All of the payload at once."""
        return b"".join(self.pieces)


def read_chunks(source: Reader) -> Iterator[Chunk]:
    """The chunks in order. Unknown types are skipped when they say that they may be. Raises IntegrityError."""
    number = 0
    while magic := read_exactly(source, len(MAGIC)):
        number += 1
        if magic != MAGIC:
            raise IntegrityError(
                f"chunk {number} of the xbstream does not begin with {MAGIC.decode()}: damaged, cut, or not an xbstream"
            )
        flags, kind, path_size = _HEAD.unpack(_need(source, _HEAD.size, number))
        if not 0 < path_size <= MAX_PATH:
            raise IntegrityError(f"chunk {number} of the xbstream has a path of {path_size} bytes")
        path = _need(source, path_size, number).decode("utf-8", "surrogateescape")
        if kind == END:
            yield Chunk(path, END)
            continue
        if kind not in (PAYLOAD, SPARSE) and not flags & IGNORABLE:
            raise IntegrityError(f"chunk {number} of the xbstream ({path}) has the unknown type {kind:#x}")
        chunk = _read_data(source, path, kind, number)
        if kind in (PAYLOAD, SPARSE):
            yield chunk
        for _ in chunk.pieces:
            continue


def _read_data(source: Reader, path: str, kind: int, number: int) -> Chunk:
    count = int.from_bytes(_need(source, 4, number), "little") if kind == SPARSE else 0
    if count > MAX_SPARSE:
        raise IntegrityError(f"chunk {number} of the xbstream ({path}) claims {count} holes")
    size, offset, checksum = _SIZES.unpack(_need(source, _SIZES.size, number))
    table = _need(source, 8 * count, number)
    sparse = tuple(struct.iter_unpack("<II", table))
    if kind == SPARSE and sum(write for _, write in sparse) != size:
        raise IntegrityError(f"chunk {number} of the xbstream ({path}): its hole map does not fit its payload")
    if offset + size + sum(skip for skip, _ in sparse) > _LIMIT:
        raise IntegrityError(f"chunk {number} of the xbstream ({path}) claims {size} bytes at {offset}")
    where = f"chunk {number} of the xbstream ({path})"
    return Chunk(path, kind, offset, size, sparse, _payload(source, size, zlib.crc32(table), checksum, where))


def _payload(source: Reader, left: int, found: int, checksum: int, where: str) -> Iterator[bytes]:
    while left:
        piece = source.read(min(left, CHUNK))
        if not piece:
            raise IntegrityError(f"the xbstream is cut inside the data of {where}")
        left -= len(piece)
        found = zlib.crc32(piece, found)
        yield piece
    if found != checksum:
        raise IntegrityError(
            f"{where} is damaged: its checksum does not match", hint="the backup is damaged; use another one"
        )


def _need(source: Reader, size: int, number: int) -> bytes:
    data = read_exactly(source, size) if size else b""
    if len(data) < size:
        raise IntegrityError(f"the xbstream is cut inside chunk {number}")
    return data
