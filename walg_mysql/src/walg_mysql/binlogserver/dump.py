"""The events of a dump: made-up rotations between the files, the files' own events, from and up to where asked.

Facts: spec/mysql.md 8, point 4; 14, row 15.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_mysql.journal.events import FORMAT_DESCRIPTION, HEADER, ROTATE, Event, read_events
from walg_mysql.journal.gtid import GtidSet, MariadbGtidSet, MysqlGtidSet, contains
from walg_mysql.journal.transactions import Window, gtid_of, selected

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

    from walg_mysql.journal.archive import Binlog

_ARTIFICIAL = 0x20
_IN_USE = 0x1


@dataclass(frozen=True, slots=True)
class Request:
    """`name` and `position` (bytes) of the first file; `checksums`: the client takes CRC32 at the events' ends."""

    name: str = ""
    position: int = 4
    checksums: bool = True


class Sent:
    """The GTIDs of what was sent, merged as they come: its size is that of the gaps between them."""

    def __init__(self) -> None:
        self._mysql: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self._mariadb = MariadbGtidSet()

    def add(self, gtid: GtidSet) -> None:
        """Note one transaction."""
        if isinstance(gtid, MariadbGtidSet):
            self._mariadb = self._mariadb.union(gtid)
            return
        for key, ((first, last), *_) in gtid.entries.items():
            known = self._mysql.setdefault(key, [])
            if known and known[-1][1] + 1 == first:
                known[-1] = (known[-1][0], last)
            else:
                known.append((first, last))

    def within(self, position: GtidSet) -> bool:
        """Whether a replica at `position` has all of it."""
        sets: tuple[GtidSet, ...] = (self._mariadb, MysqlGtidSet(self._mysql))
        return all(not each or contains(position, each) for each in sets)


def events(
    context: Context,
    storage: Storage,
    binlogs: Iterable[Binlog],
    request: Request,
    window: Window,
    server_id: int,
    sent: Sent,
) -> Iterator[bytes]:
    """Events ready to be sent. The GTID of each transaction goes into `sent`. Raises IntegrityError, StorageError."""
    position = request.position

    def record(event: Event) -> None:
        gtid = gtid_of(event)
        if gtid is not None:
            sent.add(gtid)

    for binlog in binlogs:
        window.binlogs += 1
        yield rotation(binlog.name, position, server_id, checksum=request.checksums)
        source = binlog.open(context, storage)
        try:
            for event in selected(read_events(source, binlog.name), window, position, record):
                yield _fitted(event, request.checksums, middle=position > 4)
        finally:
            source.close()
        if window.done:
            return
        position = 4


def rotation(name: str, position: int, server_id: int, *, checksum: bool) -> bytes:
    """A made-up rotate event that tells the client the file's name; it counts in no position."""
    body = position.to_bytes(8, "little") + name.encode()
    size = HEADER.size + len(body) + (4 if checksum else 0)
    raw = HEADER.pack(0, ROTATE, server_id, size, 0, _ARTIFICIAL) + body
    return raw + zlib.crc32(raw).to_bytes(4, "little") if checksum else raw


def _fitted(event: Event, checksums: bool, *, middle: bool) -> bytes:
    """An event as the client expects it: without checksum where it takes none.

    The format description of a dump that starts within its file moves no position and drops no temporary table.
    """
    raw = event.raw
    if event.kind == FORMAT_DESCRIPTION:
        body = bytearray(raw)
        body[17] &= ~_IN_USE
        if middle:
            body[13:17] = bytes(4)
            body[HEADER.size + 52 : HEADER.size + 56] = bytes(4)
        if event.checksum and not checksums:
            body[-5] = 0
        body[-4:] = zlib.crc32(bytes(body[:-4])).to_bytes(4, "little")
        return bytes(body)
    if event.checksum and not checksums:
        return raw[:9] + (len(raw) - 4).to_bytes(4, "little") + raw[13:-4]
    return raw
