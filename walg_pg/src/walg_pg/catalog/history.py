"""The backups of an archive as deletion sees them: order, times, permanence, who builds on whom (spec 14)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.errors import ObjectNotFound
from walg_core.observe import log

from walg_pg.catalog.backups import Backup, list_backups
from walg_pg.catalog.listing import nanoseconds
from walg_pg.names import BASEBACKUPS
from walg_pg.sentinel import BackupMetadata, Sentinel

if TYPE_CHECKING:
    from walg_core.storage.api import Storage

Position = tuple[int, int]
"""Timeline and segment number: the place of an object in the default order."""
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_BACKUP = re.compile(r"base_[0-9A-F]{24}(?:_D_[0-9A-F]{24})?(?:_[0-9A-F]{8})?")


def position_in(text: str, segment_size: int) -> Position | None:
    """Timeline and segment of the first 24 hex digits that are a segment's name, None without such."""
    per_id = 0x100000000 // segment_size
    for found in _SEGMENT.finditer(text):
        name = found.group()
        timeline, high, low = int(name[:8], 16), int(name[8:16], 16), int(name[16:], 16)
        if low < per_id:
            return timeline, high * per_id + low
    return None


def backup_name_in(text: str) -> str | None:
    """The first backup name in an object's key."""
    found = _BACKUP.search(text)
    return found.group() if found else None


@dataclass(frozen=True, slots=True)
class Record:
    """One backup. `time_ns`: modification time of the sentinel; `start_ns`: from the metadata, None when unknown."""

    name: str
    storage: str
    time_ns: int
    start_ns: int | None
    position: Position | None
    base: str | None = None
    permanent: bool = False
    first_segment: int = 0
    last_segment: int = 0
    timeline: int = 0
    system: int | None = None
    note: str = ""
    """Why it must not be touched, of backups in progress."""

    @property
    def full(self) -> bool:
        return self.base is None

    @property
    def moment(self) -> int:
        """When it was made, as well as that is known."""
        return self.start_ns if self.start_ns is not None else self.time_ns


class History:
    """All backups, in the order of deletion, oldest first; apart from them those in progress (`running`).

    The default order is timeline and segment. With `by_time` it is the start time of the metadata; where one is
    unknown the default order is used, with a warning.
    """

    def __init__(
        self, records: Iterable[Record], *, segment_size: int, by_time: bool = False, running: Sequence[Record] = ()
    ) -> None:
        self.segment_size = segment_size
        self.running = tuple(running)
        found = list(records)
        if by_time and any(record.start_ns is None for record in found):
            unknown = next(record.name for record in found if record.start_ns is None)
            log.warning(f"the start time of {unknown} is not known: backups are ordered by their names instead")
            by_time = False
        self.by_time = by_time
        self.records = sorted(found, key=self._order)
        self.by_name = {(record.storage, record.name): record for record in self.records}
        self._starts = {record.name: record.start_ns for record in self.records}

    def _order(self, record: Record) -> tuple[int, int, int]:
        if self.by_time:
            return record.start_ns or 0, 0, 0
        timeline, segment = record.position or (1 << 32, 0)
        return timeline, segment, record.time_ns

    def time_of(self, record: Record) -> int:
        """A backup's time as `before` and `--after` compare it, in nanoseconds."""
        return record.start_ns if self.by_time and record.start_ns is not None else record.time_ns

    def less(self, key: str, target: Record) -> bool:
        """Whether an object comes strictly before the target (spec 14 "Order")."""
        mine = position_in(key, self.segment_size)
        if self.by_time:
            name = backup_name_in(key)
            if name is not None:
                start = self._starts.get(name)
                return start is not None and target.start_ns is not None and start < target.start_ns
            return mine is not None and target.position is not None and mine[1] < target.position[1]
        return mine is not None and target.position is not None and mine < target.position

    def children(self, record: Record) -> list[Record]:
        """Deltas that build directly on this backup."""
        return [each for each in self.records if each.base == record.name and each.storage == record.storage]

    def dependents(self, record: Record) -> list[Record]:
        """Every delta that needs this backup, directly or not."""
        out: list[Record] = []
        todo = [record]
        while todo:
            for child in self.children(todo.pop()):
                if child not in out:
                    out.append(child)
                    todo.append(child)
        return out

    def ancestors(self, record: Record) -> list[Record]:
        """The chain below a delta, nearest first; it ends at the full backup or where one is missing."""
        out: list[Record] = []
        current = record
        while current.base is not None:
            base = self.by_name.get((current.storage, current.base))
            if base is None:
                # The chain may continue in another storage of the same archive.
                base = next((each for each in self.records if each.name == current.base), None)
            if base is None or base in out:
                break
            out.append(base)
            current = base
        return out

    def newest(self) -> Record | None:
        """The backup made last."""
        return max(self.records, key=lambda record: record.moment, default=None)


def read_history(
    storages: Sequence[Storage], *, segment_size: int, by_time: bool = False, running: Sequence[Record] = ()
) -> History:
    """Read every sentinel and every `metadata.json`; `running` are the backups in progress.

    Raises StorageError and IntegrityError: what cannot be read is never taken for "not permanent".
    """
    records = []
    for backup in list_backups(storages, BASEBACKUPS):
        sentinel = backup.sentinel()
        records.append(record_of(backup, sentinel, _metadata(backup), segment_size))
    return History(records, segment_size=segment_size, by_time=by_time, running=running)


def _metadata(backup: Backup) -> BackupMetadata | None:
    try:
        return backup.metadata()
    except ObjectNotFound:
        log.warning(f"backup {backup.name} has no metadata.json: whether it is permanent is read from its sentinel")
        return None


def record_of(backup: Backup, sentinel: Sentinel, metadata: BackupMetadata | None, segment_size: int) -> Record:
    """A backup's row of the history."""
    position = position_in(backup.name, segment_size)
    start, finish = sentinel.start_lsn, sentinel.finish_lsn
    if metadata is not None:
        start, finish = metadata.start_lsn or start, metadata.finish_lsn or finish
    timeline, own = position or (0, 0)
    return Record(
        name=backup.name,
        storage=backup.storage.name,
        time_ns=backup.modified_ns,
        start_ns=nanoseconds(metadata.start_time if metadata else sentinel.start_time),
        position=position,
        base=sentinel.delta_from,
        permanent=metadata.is_permanent if metadata else sentinel.is_permanent,
        first_segment=(start - 1) // segment_size if start else own,
        last_segment=(finish - 1) // segment_size if finish else own,
        timeline=timeline,
        system=sentinel.system_identifier,
    )
