"""Finding checkpoints in WAL, as `pg_rewind` does (PostgreSQL: `parsexlog.c`, `findLastCheckpoint`)."""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct
from typing import NamedTuple

from walg_pg.journal.records import CONTINUES, LONG, LONG_HEADER, OVERWRITES, RECORD_HEADER, RMGR_XLOG, SHORT_HEADER

SHUTDOWN, ONLINE = 0x00, 0x10
MAIN_SHORT = 255

_PAGE = Struct("<HHIQI")
_RECORD = Struct("<IIQBB")


class Checkpoint(NamedTuple):
    """A checkpoint record: where it begins, and from where its recovery replays (both LSNs)."""

    lsn: int
    redo: int


def last_checkpoint(data: bytes, start: int, page_size: int, before: int) -> Checkpoint | None:
    """The last checkpoint record that begins before the LSN `before` and lies whole in this segment.

    `data` is the segment, `start` its first byte's LSN. Reading ends where the pages are no longer this segment's (the
    rest of a file that was used before) or a record makes no sense.
    """
    found = None
    for stream, pages in _runs(data, start, page_size):
        at = 0
        offsets = [offset for offset, _ in pages]
        while len(stream) - at >= RECORD_HEADER:
            total, _, _, info, manager = _RECORD.unpack_from(stream, at)
            page = pages[bisect_right(offsets, at) - 1]
            lsn = page[1] + at - page[0]
            if total < RECORD_HEADER or at + total > len(stream) or lsn >= before:
                break
            if manager == RMGR_XLOG and info & 0xF0 in (SHUTDOWN, ONLINE) and stream[at + RECORD_HEADER] == MAIN_SHORT:
                body = at + RECORD_HEADER + 2
                found = Checkpoint(lsn, int.from_bytes(stream[body : body + 8], "little"))
            at += -(-total // 8) * 8
    return found


def _runs(data: bytes, start: int, page_size: int) -> list[tuple[bytes, list[tuple[int, int]]]]:
    """Page payloads joined as far as records continue, each beginning with a record.

    With each: for every page the offset of its first byte in the run, and that byte's LSN.
    """
    runs: list[tuple[bytearray, list[tuple[int, int]]]] = []
    skip = 0
    for at in range(0, len(data) - LONG_HEADER, page_size):
        magic, info, _, address, remaining = _PAGE.unpack_from(data, at)
        if not magic or address != start + at:
            break
        begin = at + (LONG_HEADER if info & LONG else SHORT_HEADER)
        if not runs or info & OVERWRITES:
            # The end of a record from the segment before comes first, or one that a crash cut off was given up.
            runs.append((bytearray(), []))
            skip = -(-remaining // 8) * 8 if info & CONTINUES else 0
        payload, pages = runs[-1]
        passed = min(skip, at + page_size - begin)
        skip -= passed
        pages.append((len(payload), start + begin + passed))
        payload += data[begin + passed : at + page_size]
    return [(bytes(payload), pages) for payload, pages in runs]
