"""wal-verify: is every segment there that recovery would need, and is the archive on the right timeline?

Facts: spec/postgres-wal.md 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from walg_core.backups import gojson, table
from walg_core.context import Context
from walg_core.errors import EngineError, UsageError, WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_pg.catalog.backups import Backup, find_backup, list_backups
from walg_pg.journal import place
from walg_pg.journal.archive import archived_names, timelines
from walg_pg.journal.history import Switch, archived_history
from walg_pg.lsn import NotASegmentName, is_segment_name, parse_segment_name, segment_name

OK, WARNING, FAILURE = "OK", "WARNING", "FAILURE"
FOUND, DELAYED, UPLOADING, MISSING = "FOUND", "MISSING_DELAYED", "MISSING_UPLOADING", "MISSING_LOST"
CHECKS = ("integrity", "timeline")


@dataclass(frozen=True, slots=True)
class Position:
    """Where the cluster is: a timeline and a segment number on it."""

    timeline: int
    segment: int


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive segments of one timeline with one status; first and last are names."""

    timeline: int
    first: str
    last: str
    count: int
    status: str


@dataclass(frozen=True, slots=True)
class Integrity:
    """`runs` is None when nothing was scanned."""

    status: str
    runs: list[Run] | None


@dataclass(frozen=True, slots=True)
class TimelineCheck:
    status: str
    current: int
    highest: int


class Verifier:
    """The checks of one archive against one position of its cluster."""

    def __init__(self, context: Context, storage: Storage, position: Position) -> None:
        self.context = context
        self.storage = storage
        self.wal = storage.folder(place.FOLDER)
        self.position = position
        self.size = place.segment_size(context.config)
        self.history = archived_history(context, self.wal, position.timeline)

    # Integrity.

    def integrity(self, backup_name: str = "") -> Integrity:
        """Walk back from the current segment (not itself checked) to the oldest backup's, or to the named one's.

        Raises BackupNotFound, UsageError for a backup that is not in this cluster's history, any StorageError.
        """
        there = {(t.number, n) for t in timelines(self.context, self.wal, self.size).values() for n in t.segments}
        stop, without_backups = self._stop_segment(backup_name)
        statuses = self._walk(there, stop)
        if not statuses:
            return Integrity(OK, None)
        runs = []
        for (timeline, status), group in groupby(reversed(statuses), key=lambda row: (row[0], row[2])):
            numbers = [number for _, number, _ in group]
            names = [segment_name(timeline, number, self.size) for number in (numbers[0], numbers[-1])]
            runs.append(Run(timeline, names[0], names[1], len(numbers), status))
        return Integrity(_verdict(runs, without_backups), runs)

    def _walk(self, there: set[tuple[int, int]], stop: int) -> list[tuple[int, int, str]]:
        """`(timeline, number, status)` from the newest segment down."""
        switches: dict[int, Switch] = {}
        for switch in self.history:
            # Of several switches in one segment the first counts: below it lies the timeline that was left there.
            switches.setdefault(switch.lsn // self.size, switch)
        delayed: int = self.context.config.get("WALG_INTEGRITY_MAX_DELAYED_WALS")
        uploading: int = self.context.config.get("WALG_UPLOAD_CONCURRENCY")
        timeline, number = self.position.timeline, self.position.segment
        out: list[tuple[int, int, str]] = []
        while number - 1 >= stop:
            timeline = self._timeline_below(timeline, number, switches, there)
            number -= 1
            present = (timeline, number) in there
            if delayed > 0:
                # The first segment that is there ends the delayed ones, and belongs to them.
                absent, delayed = DELAYED, 0 if present else delayed - 1
            elif uploading > 0:
                absent, uploading = UPLOADING, uploading - 1
            else:
                absent = MISSING
            out.append((timeline, number, FOUND if present else absent))
        return out

    @staticmethod
    def _timeline_below(timeline: int, number: int, switches: dict[int, Switch], there: set[tuple[int, int]]) -> int:
        switch = switches.get(number)
        if switch is None or switch.timeline >= timeline:
            return timeline
        if (timeline, number - 1) in there:
            log.warning(
                f"the history says that timeline {timeline} begins in segment {number:#x}, "
                "but the segment before it is archived on that timeline too; staying on it"
            )
            return timeline
        return switch.timeline

    def _stop_segment(self, backup_name: str) -> tuple[int, bool]:
        """The oldest segment wanted, and whether that is a guess because there is no backup."""
        if backup_name:
            backup = find_backup([self.storage], backup_name)
            if not self._is_correct(backup):
                raise UsageError(
                    f"backup {backup_name} is not in the history of timeline {self.position.timeline}",
                    hint="choose a backup of this cluster's own timelines (`wal-g backup-list`)",
                )
            return self._segment_of(backup)[1], False
        try:
            found = [self._segment_of(b)[1] for b in list_backups([self.storage]) if self._counts(b)]
        except WalgError as error:
            log.warning(f"the backups cannot be read, so the whole archive is walked: {error}")
            return 1, True
        if not found:
            log.warning("there is no backup in this cluster's history: every segment since the first is looked for")
            return 1, True
        return min(found), False

    def _counts(self, backup: Backup) -> bool:
        return self._is_correct(backup) and not backup.metadata().is_permanent

    def _segment_of(self, backup: Backup) -> tuple[int, int]:
        return parse_segment_name(backup.wal_name, self.size)

    def _is_correct(self, backup: Backup) -> bool:
        """Whether the backup lies on the way that led to the current timeline."""
        try:
            timeline, number = self._segment_of(backup)
        except NotASegmentName:
            return False
        if not self.history:
            return True
        switches = {switch.timeline: switch.lsn // self.size for switch in self.history}
        before = switches.get(timeline - 1)
        if before is not None and number < before:
            return False
        if timeline == self.position.timeline:
            return True
        return timeline in switches and number < switches[timeline]

    # Timeline.

    def timeline(self) -> TimelineCheck:
        """Compare the highest timeline in the archive with the cluster's."""
        highest = 0
        for name in archived_names(self.context, self.wal):
            if is_segment_name(name) or (name.endswith(".history") and len(name) == 16):
                try:
                    highest = max(highest, int(name[:8], 16))
                except ValueError:
                    log.warning(f"the timeline of {name} cannot be read")
        current = self.position.timeline
        status = WARNING if not highest else OK if highest == current else FAILURE
        return TimelineCheck(status, current, highest)


def _verdict(runs: list[Run], without_backups: bool) -> str:
    status, found = OK, False
    for run in runs:
        if run.status == FOUND:
            found = True
        elif run.status != MISSING or (without_backups and not found):
            status = WARNING
        else:
            return FAILURE
    return status


def position_of(context: Context, timeline: int | None, lsn: str) -> Position:
    """From the two options, which go together, else from the server. Raises UsageError, EngineError."""
    from walg_pg.lsn import parse_lsn

    size = place.segment_size(context.config)
    if bool(lsn) != (timeline is not None):
        raise UsageError("--timeline and --lsn must be given together", hint="give both, or none to ask the server")
    if timeline is not None:
        try:
            return Position(timeline, (parse_lsn(lsn) - 1) // size)
        except ValueError as error:
            raise UsageError(f"--lsn: {error}") from error
    return _position_of_server(size)


def _position_of_server(size: int) -> Position:
    from walg_pg.lsn import parse_lsn
    from walg_pg.server import Server

    with Server.connect() as server:
        if server.value("select pg_is_in_recovery()"):
            lsn = server.value("select pg_last_wal_receive_lsn()::text")
            if lsn is None:
                raise EngineError(
                    "the standby has never streamed, so it does not know the end of the WAL",
                    hint="give --timeline and --lsn",
                )
        else:
            lsn = server.value("select pg_current_wal_lsn()::text")
        timeline = int(server.value("select timeline_id from pg_control_checkpoint()"))
        segment_bytes = int(server.value("select bytes_per_wal_segment from pg_control_init()"))
    if segment_bytes != size:
        raise EngineError(
            f"the server's WAL segments have {segment_bytes} bytes, WALG_PG_WAL_SIZE says {size}",
            hint=f"set WALG_PG_WAL_SIZE={segment_bytes >> 20}",
        )
    return Position(timeline, (parse_lsn(str(lsn)) - 1) // size)


def as_json(integrity: Integrity | None, timeline: TimelineCheck | None) -> str:
    """One object with the requested checks, without a newline."""
    out: dict[str, Any] = {}
    if integrity:
        details = None
        if integrity.runs is not None:
            details = [
                {
                    "timeline_id": run.timeline,
                    "start_segment": run.first,
                    "end_segment": run.last,
                    "segments_count": run.count,
                    "status": run.status,
                }
                for run in integrity.runs
            ]
        out["integrity"] = {"status": integrity.status, "details": details}
    if timeline:
        details_of = {"current_timeline_id": timeline.current, "highest_storage_timeline_id": timeline.highest}
        out["timeline"] = {"status": timeline.status, "details": details_of}
    return gojson.dumps(out).decode()


def as_text(integrity: Integrity | None, timeline: TimelineCheck | None) -> str:
    """The plain report; ends in a newline."""
    parts = []
    if integrity:
        rows = [[str(r.timeline), r.first, r.last, str(r.count), r.status] for r in integrity.runs or []]
        box = table.box(["TLI", "Start", "End", "Segments count", "Status"], rows, frozenset((0, 3, 4)))
        parts.append(f"[wal-verify] integrity check status: {integrity.status}\n")
        parts.append(f"[wal-verify] integrity check details:\n{box}")
    if timeline:
        parts.append(f"[wal-verify] timeline check status: {timeline.status}\n")
        parts.append("[wal-verify] timeline check details:\n")
        parts.append(f"Highest timeline found in storage: {timeline.highest}\n")
        parts.append(f"Current cluster timeline: {timeline.current}\n")
    return "".join(parts)
