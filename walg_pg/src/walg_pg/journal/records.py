"""WAL pages and records, as far as the blocks that they touch (PostgreSQL: `access/xlogrecord.h`, `xlogreader.c`).

Correct for PostgreSQL 10 to 18: image flags by page magic, top-level xid (id 252), custom resource managers, pages that
overwrite an abandoned record. Facts: spec/postgres-wal.md 5.5.

A location is 16 bytes, as in delta files: tablespace, database, relation file and block number, u32 little-endian each.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from walg_core.errors import IntegrityError

from walg_pg.journal.segment import MAGICS

RECORD_HEADER = 24
SHORT_HEADER, LONG_HEADER = 24, 40
LONG, CONTINUES, OVERWRITES = 0x0002, 0x0001, 0x0008
RMGR_XLOG, XLOG_SWITCH = 0, 0x40

BLOCK_MAX = 32
MAIN_SHORT, MAIN_LONG, ORIGIN, TOPLEVEL_XID = 255, 254, 253, 252
HAS_IMAGE, HAS_DATA, WILL_INIT, SAME_RELATION = 0x10, 0x20, 0x40, 0x80
HAS_HOLE = 0x01
COMPRESSED_BEFORE_15, COMPRESSED_SINCE_15 = 0x02, 0x04 | 0x08 | 0x10
FIRST_MAGIC_OF_15 = 0xD110
MAX_RECORD = 1020 << 20
"""PostgreSQL refuses to write a longer record (XLogRecordMaxSize)."""

_HEAD = Struct("<IIQBBHI")
_PAGE = Struct("<HHIQI")


class Damaged(IntegrityError):
    """The bytes are no WAL."""


class Parsed(NamedTuple):
    """What one segment holds.

    `tail`: the end of a record begun before (empty: none; None: no record begins in this segment at all).
    `head`: the beginning of a record that goes on in the next segment. `locations`: of all whole records.
    """

    tail: bytes | None
    head: bytes
    locations: set[bytes]


def compressed_flags(magic: int) -> int:
    """The bits that mark a compressed page image in WAL of this page magic."""
    return COMPRESSED_SINCE_15 if magic >= FIRST_MAGIC_OF_15 else COMPRESSED_BEFORE_15


def parse_segment(data: bytes, page_size: int) -> Parsed:
    """Parse a whole segment (or its beginning, up to a page boundary). Raises Damaged."""
    runs, remaining, magic = _runs(data, page_size)
    if not runs:
        return Parsed(b"", b"", set())
    compressed = compressed_flags(magic)
    locations: set[bytes] = set()
    first = runs[0]
    if remaining > len(first) and len(runs) == 1:
        return Parsed(None, first, locations)
    tail = first[:remaining]
    position, head = -(-remaining // 8) * 8, b""
    for run in runs:
        head, ended = _records(run, position, compressed, locations)
        position = 0
        if ended:
            head = b""
            break
    return Parsed(tail, head, locations)


def _runs(data: bytes, page_size: int) -> tuple[list[bytes], int, int]:
    """Page payloads joined to runs in which records continue; the first page's remaining length; the magic."""
    parts: list[list[bytes]] = []
    first_remaining = first_magic = 0
    view = memoryview(data)
    for at in range(0, len(data), page_size):
        if len(data) - at < SHORT_HEADER:
            break
        magic, info, _, _, remaining = _PAGE.unpack_from(data, at)
        if not magic:
            if any(view[at : at + page_size]):
                raise Damaged(f"the WAL page at offset {at} has an empty header but data behind it")
            break
        if magic not in MAGICS and not 0xD118 < magic <= 0xD1FF:
            raise Damaged(f"the WAL page at offset {at} has the unknown magic {magic:#06x}")
        if info & ~0x000F or bool(info & CONTINUES) != (remaining != 0):
            raise Damaged(f"the WAL page at offset {at} has an invalid header (info {info:#x}, remaining {remaining})")
        if not parts:
            first_remaining, first_magic = remaining, magic
        if not parts or info & OVERWRITES:
            # The record that was under way was abandoned by a crash; what follows begins anew.
            parts.append([])
        parts[-1].append(view[at + (LONG_HEADER if info & LONG else SHORT_HEADER) : at + page_size])  # type: ignore[arg-type]
    return [b"".join(run) for run in parts], first_remaining, first_magic


def _records(stream: bytes, position: int, compressed: int, locations: set[bytes]) -> tuple[bytes, bool]:
    """Collect the locations of all whole records from `position`; the unfinished rest, and whether WAL ends there."""
    end = len(stream)
    unpack = _HEAD.unpack_from
    while end - position >= RECORD_HEADER:
        total, _, _, info, manager, _, _ = unpack(stream, position)
        if total < RECORD_HEADER:
            if total or any(stream[position : position + 4096]):
                raise Damaged(f"a record claims to be {total} bytes long")
            return b"", True
        if total > MAX_RECORD:
            raise Damaged(f"a record claims to be {total} bytes long")
        if position + total > end:
            return stream[position:], False
        if manager == RMGR_XLOG and info & 0xF0 == XLOG_SWITCH:
            return b"", True
        _blocks(stream, position + RECORD_HEADER, position + total, compressed, locations)
        position += -(-total // 8) * 8
    return stream[position:] if position < end else b"", False


def _blocks(data: bytes, at: int, end: int, compressed: int, locations: set[bytes]) -> None:
    """The block references of one record body in `data[at:end]`. Raises Damaged."""
    payload = 0
    relation = b""
    try:
        while end - at > payload:
            kind = data[at]
            if kind <= BLOCK_MAX:
                flags = data[at + 1]
                payload += data[at + 2] | data[at + 3] << 8
                at += 4
                if flags & HAS_IMAGE:
                    payload += data[at] | data[at + 1] << 8
                    image = data[at + 4]
                    at += 5
                    if image & HAS_HOLE and image & compressed:
                        at += 2
                if not flags & SAME_RELATION:
                    relation = data[at : at + 12]
                    at += 12
                if len(relation) != 12:
                    raise Damaged("a block reference names no relation")
                locations.add(relation + data[at : at + 4])
                at += 4
            elif kind == MAIN_SHORT:
                payload += data[at + 1]
                at += 2
            elif kind == MAIN_LONG:
                payload += int.from_bytes(data[at + 1 : at + 5], "little")
                at += 5
            elif kind == ORIGIN:
                at += 3
            elif kind == TOPLEVEL_XID:
                at += 5
            else:
                raise Damaged(f"a record has a header of the unknown kind {kind}")
    except IndexError:
        raise Damaged("a record's headers run over its end") from None
    if at + payload != end:
        raise Damaged("a record's length does not fit its headers")


def parse_record(record: bytes, magic: int) -> set[bytes]:
    """The locations of one whole record. Raises Damaged when it is not exactly one."""
    locations: set[bytes] = set()
    if len(record) < RECORD_HEADER:
        raise Damaged(f"a record of {len(record)} bytes is shorter than its header")
    total, _, _, info, manager, _, _ = _HEAD.unpack_from(record)
    if total != len(record):
        raise Damaged(f"a record claims to be {total} bytes long but has {len(record)}")
    if not (manager == RMGR_XLOG and info & 0xF0 == XLOG_SWITCH):
        _blocks(record, RECORD_HEADER, total, compressed_flags(magic), locations)
    return locations
