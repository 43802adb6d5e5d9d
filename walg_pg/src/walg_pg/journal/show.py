"""wal-show: the archive's timelines, their gaps and their backups (spec/postgres-wal.md 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from walg_core.backups import gojson, table
from walg_core.context import Context
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_pg.catalog import listing
from walg_pg.journal import place
from walg_pg.journal.archive import Timeline, timelines
from walg_pg.journal.history import Switch, archived_history
from walg_pg.lsn import format_lsn, segment_name

OK, LOST = "OK", "LOST_SEGMENTS"


@dataclass(frozen=True, slots=True)
class Shown:
    """One timeline of the report. `backups` are the rows that lie on it, newest segment first."""

    timeline: Timeline
    parent: Switch | None
    missing: list[str]
    backups: list[listing.Row]

    @property
    def status(self) -> str:
        return LOST if self.missing else OK


def report(context: Context, storage: Storage, *, with_backups: bool = True) -> list[Shown]:
    """All timelines, ascending. `storage` is the archive's root. Raises any StorageError."""
    size = place.segment_size(context.config)
    wal = storage.folder(place.FOLDER)
    rows = listing.rows([storage], detail=True) if with_backups else []
    if with_backups and not rows:
        log.info("No backups found in storage.")
    shown = []
    for number, timeline in timelines(context, wal, size).items():
        history = archived_history(context, wal, number) if number > 1 else []
        parent = history[-1] if history else None
        shown.append(Shown(timeline, parent, timeline.missing(), _backups_on(timeline, rows)))
    return shown


def _backups_on(timeline: Timeline, rows: list[listing.Row]) -> list[listing.Row]:
    found = []
    for row in rows:
        metadata = row.metadata
        if metadata is None or row.backup.wal_name[:8] != f"{timeline.number:08X}":
            continue
        size = timeline.segment_size
        start = segment_name(timeline.number, metadata.start_lsn // size, size)
        finish = segment_name(timeline.number, metadata.finish_lsn // size, size)
        if timeline.first <= start and finish <= timeline.last:
            found.append(row)
    return sorted(found, key=lambda row: row.backup.wal_name, reverse=True)


def as_json(shown: list[Shown]) -> str:
    """One array without a newline."""
    out: list[dict[str, Any]] = []
    for each in shown:
        document: dict[str, Any] = {
            "id": each.timeline.number,
            "parent_id": each.parent.timeline if each.parent else 0,
            "switch_point_lsn": each.parent.lsn if each.parent else 0,
            "start_segment": each.timeline.first,
            "end_segment": each.timeline.last,
            "segments_count": len(each.timeline.segments),
            "missing_segments": each.missing,
        }
        if each.backups:
            document["backups"] = [listing.json_row(row) for row in each.backups]
        document["segment_range_size"] = each.timeline.span
        document["status"] = each.status
        out.append(document)
    return gojson.dumps(out).decode()


def as_table(shown: list[Shown], *, with_backups: bool = True) -> str:
    """The boxed table."""
    headers = ["TLI", "Parent TLI", "Switchpoint LSN", "Start segment", "End segment", "Segment range"]
    headers += ["Segments count", "Status"] + (["Backups count"] if with_backups else [])
    rows = []
    for each in shown:
        row = [
            str(each.timeline.number),
            str(each.parent.timeline if each.parent else 0),
            format_lsn(each.parent.lsn if each.parent else 0),
            each.timeline.first,
            each.timeline.last,
            str(each.timeline.span),
            str(len(each.timeline.segments)),
            each.status,
        ]
        rows.append(row + ([str(len(each.backups))] if with_backups else []))
    return table.box(headers, rows, frozenset((0, 1, 2, 5, 6, 8)))
