"""The chunks of an xbstream, read and written (spec/mysql.md 10). Integers are little-endian.

Unlike the original, every checksum is verified and a stream cut anywhere is an error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import Reader, read_exactly

MAGIC = b"XBSTCK01"
PAYLOAD, SPARSE, END = ord("P"), ord("S"), ord("E")
IGNORABLE = 0x01
MAX_PATH = 512
MAX_PAYLOAD = 1 << 30
"""The tools write chunks of 10 MiB by default and let the user raise that; a larger claim is damage."""
MAX_SPARSE = 1 << 20

_HEAD = struct.Struct("<BBI")
_SIZES = struct.Struct("<QQI")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk. `offset` is where the payload belongs in the file; `sparse` are `(skip, write)` byte counts."""

    path: str
    kind: int
    offset: int = 0
    payload: bytes = b""
    sparse: tuple[tuple[int, int], ...] = field(default=())


def read_chunks(source: Reader) -> Iterator[Chunk]:
    """The chunks in order. Unknown types are skipped when they say that they may be. Raises IntegrityError."""
    number = 0
    while magic := read_exactly(source, len(MAGIC)):
        number += 1
        if magic != MAGIC:
            raise IntegrityError(f"chunk {number} of the xbstream does not begin with {MAGIC.decode()}: damaged or cut")
        flags, kind, path_size = _HEAD.unpack(_need(source, _HEAD.size, number))
        if not 0 < path_size <= MAX_PATH:
            raise IntegrityError(f"chunk {number} of the xbstream has a path of {path_size} bytes")
        path = _need(source, path_size, number).decode("utf-8", "surrogateescape")
        if kind == END:
            yield Chunk(path, END)
            continue
        if kind not in (PAYLOAD, SPARSE) and not flags & IGNORABLE:
            raise IntegrityError(f"chunk {number} of the xbstream has the unknown type {kind:#x}")
        chunk = _read_data(source, path, kind, number)
        if kind in (PAYLOAD, SPARSE):
            yield chunk


def _read_data(source: Reader, path: str, kind: int, number: int) -> Chunk:
    count = int.from_bytes(_need(source, 4, number), "little") if kind == SPARSE else 0
    if count > MAX_SPARSE:
        raise IntegrityError(f"chunk {number} of the xbstream claims {count} holes")
    size, offset, checksum = _SIZES.unpack(_need(source, _SIZES.size, number))
    if size > MAX_PAYLOAD:
        raise IntegrityError(f"chunk {number} of the xbstream claims {size} bytes")
    table = _need(source, 8 * count, number)
    payload = _need(source, size, number)
    if zlib.crc32(payload, zlib.crc32(table)) != checksum:
        raise IntegrityError(f"chunk {number} of the xbstream ({path}) is damaged: its checksum does not match")
    sparse = tuple(struct.iter_unpack("<II", table))
    if sparse and sum(write for _, write in sparse) != size:
        raise IntegrityError(f"chunk {number} of the xbstream ({path}): its hole map does not fit its payload")
    return Chunk(path, kind, offset, payload, sparse)


def _need(source: Reader, size: int, number: int) -> bytes:
    data = read_exactly(source, size) if size else b""
    if len(data) < size:
        raise IntegrityError(f"the xbstream is cut inside chunk {number}")
    return data


def write_chunk(chunk: Chunk) -> bytes:
    """The bytes of one chunk."""
    path = chunk.path.encode("utf-8", "surrogateescape")
    head = MAGIC + _HEAD.pack(0, chunk.kind, len(path)) + path
    if chunk.kind == END:
        return head
    table = b"".join(struct.pack("<II", *pair) for pair in chunk.sparse)
    count = len(chunk.sparse).to_bytes(4, "little") if chunk.kind == SPARSE else b""
    checksum = zlib.crc32(chunk.payload, zlib.crc32(table))
    return b"".join((head, count, _SIZES.pack(len(chunk.payload), chunk.offset, checksum), table, chunk.payload))
