"""Several binlogs as one, cut at transactions: from a position on and up to a time or a GTID.

A transaction begins at its GTID event (33, 34, 42; MariaDB 162). In files without such events it begins at the query
`BEGIN` or at a query outside of one, and ends at the XID event or at `COMMIT`/`ROLLBACK`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from walg_core.pipeline.reader import IterReader, Reader

from walg_mysql.journal.events import (
    ANONYMOUS_GTID,
    FORMAT_DESCRIPTION,
    GTID,
    GTID_TAGGED,
    INCIDENT,
    MAGIC,
    MARIADB_GTID,
    MARIADB_GTID_LIST,
    PREVIOUS_GTIDS,
    QUERY,
    ROTATE,
    STOP,
    Event,
    mariadb_gtid,
    mysql_gtid,
    read_events,
)
from walg_mysql.journal.gtid import GtidSet, MariadbGtidSet, MysqlGtidSet, contains

XID = 16
_BEGINS = frozenset((GTID, ANONYMOUS_GTID, GTID_TAGGED, MARIADB_GTID))
_FRAME = frozenset((PREVIOUS_GTIDS, MARIADB_GTID_LIST, ROTATE, STOP, INCIDENT))


@dataclass(slots=True)
class Window:
    """Which transactions are taken, and what has been.

    `after`: those that the restored data hold are skipped. `position`: `(file, byte)` where the data end in an archive
    without GTIDs. `before`: Unix time (seconds, exclusive) at which to stop. `target`: the GTID to stop after.
    """

    after: GtidSet | None = None
    position: tuple[str, int] | None = None
    before: float | None = None
    target: GtidSet | None = None
    taken: int = 0
    skipped: int = 0
    binlogs: int = 0
    done: bool = False
    reached: bool = False
    last_timestamp: int = 0

    def begin(self, event: Event) -> bool:
        """Whether the transaction that `event` begins is taken; sets `done` when the end is reached."""
        self.last_timestamp = max(self.last_timestamp, event.timestamp)
        if self.reached or (self.before is not None and event.timestamp >= self.before):
            self.done = True
            return False
        gtid = gtid_of(event)
        if self.target is not None and gtid == self.target:
            self.reached = True
        if self.after is not None and gtid is not None and contains(self.after, gtid):
            self.skipped += 1
            return False
        self.taken += 1
        return True


def gtid_of(event: Event) -> GtidSet | None:
    """The GTID of a transaction's first event as a set of one; None without one (anonymous, tagged)."""
    mysql = mysql_gtid(event)
    if mysql:
        return MysqlGtidSet({(mysql[0], ""): [(mysql[1], mysql[1])]})
    mariadb = mariadb_gtid(event)
    return MariadbGtidSet({mariadb[0]: (mariadb[1], mariadb[2])}) if mariadb else None


def joined(binlogs: Iterable[tuple[str, Reader]], window: Window) -> Reader:
    """The chosen transactions of all binlogs as the bytes of one; closes each source.

    Each file's format description goes along, so that its events are read as their server wrote them; rotations and
    stops are left out. Raises IntegrityError for a damaged file.
    """
    return IterReader(_joined(binlogs, window))


def _joined(binlogs: Iterable[tuple[str, Reader]], window: Window) -> Iterator[bytes]:
    yield MAGIC
    for name, source in binlogs:
        window.binlogs += 1
        try:
            yield from _chosen(name, source, window)
        finally:
            source.close()
        if window.done:
            return


def _chosen(name: str, source: Reader, window: Window) -> Iterator[bytes]:
    position = window.position[1] if window.position and window.position[0] == name else 4
    for event in selected(read_events(source, name), window, position):
        if event.kind not in _FRAME:
            yield event.raw


def selected(
    events: Iterable[Event], window: Window, position: int = 4, taken: Callable[[Event], None] | None = None
) -> Iterator[Event]:
    """Of one file's events: the format description, what frames transactions, and those that the window takes.

    `position` is the byte from which on events count; `taken` is called with each taken transaction's first event.
    """
    taking, inside, with_gtids, at = True, False, False, 4
    for event in events:
        start, at = at, at + len(event.raw)
        if event.kind == FORMAT_DESCRIPTION:
            yield event
            continue
        if start < position:
            continue
        if event.kind in _FRAME:
            yield event
            continue
        begins = event.kind in _BEGINS or (not with_gtids and not inside and event.kind == QUERY)
        with_gtids = with_gtids or event.kind in _BEGINS
        inside = not with_gtids and _inside(event, inside)
        if begins:
            taking = window.begin(event)
            if taking and taken:
                taken(event)
        if window.done:
            return
        if taking:
            yield event


def _inside(event: Event, inside: bool) -> bool:
    """Whether a transaction without GTID event is open after `event`."""
    if event.kind == XID:
        return False
    if event.kind != QUERY:
        return inside
    text = query_text(event)
    if text == b"BEGIN":
        return True
    return inside and text not in (b"COMMIT", b"ROLLBACK")


def query_text(event: Event) -> bytes:
    """The statement of a query event: after thread, time, lengths, status variables and the database's name."""
    body = event.body
    if len(body) < 13:
        return b""
    start = 13 + int.from_bytes(body[11:13], "little") + body[8] + 1
    return body[start:]
