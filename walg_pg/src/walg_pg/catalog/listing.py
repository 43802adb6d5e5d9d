"""`backup-list`: rows and their three forms (spec/postgres-backup.md 13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from walg_core.backups import table, times
from walg_core.backups.gojson import dumps, user_data
from walg_core.errors import IntegrityError, ObjectNotFound
from walg_core.observe import log

from walg_pg.catalog.backups import Backup, list_backups
from walg_pg.lsn import format_lsn
from walg_pg.names import BASEBACKUPS
from walg_pg.sentinel import BackupMetadata

if TYPE_CHECKING:
    from walg_core.storage.api import Storage

_ZERO_TIME = "0001-01-01T00:00:00Z"
_COLUMNS = (
    ("backup_name", "Backup name"),
    ("modified", "Modified"),
    ("wal_file_name", "WAL file name"),
    ("storage_name", "Storage name"),
)
_DETAIL_COLUMNS = (
    ("start_time", "Start time"),
    ("finish_time", "Finish time"),
    ("hostname", "Hostname"),
    ("data_dir", "Datadir"),
    ("pg_version", "PG version"),
    ("start_lsn", "Start LSN"),
    ("finish_lsn", "Finish LSN"),
    ("is_permanent", "Permanent"),
)


class Row(NamedTuple):
    """One backup; `metadata` None: not asked for."""

    backup: Backup
    metadata: BackupMetadata | None


def rows(storages: Sequence[Storage], folder: str = BASEBACKUPS, *, detail: bool = False) -> list[Row]:
    """The backups in the list's order. One whose `metadata.json` cannot be read is shown with empty details."""
    backups = list_backups(storages, folder)
    if not detail:
        return [Row(backup, None) for backup in backups]
    found = [Row(backup, _details(backup)) for backup in backups]
    stamps = [_start(row) for row in found]
    if all(stamp is not None for stamp in stamps):
        order = sorted(range(len(found)), key=lambda at: stamps[at] or 0)
        found = [found[at] for at in order]
    return found


def _details(backup: Backup) -> BackupMetadata:
    try:
        return backup.metadata()
    except (ObjectNotFound, IntegrityError) as error:
        log.warning(f"backup {backup.name} is shown without details: {error}")
        return BackupMetadata(date_format="")


def _start(row: Row) -> int | None:
    return nanoseconds(row.metadata.start_time) if row.metadata else None


def nanoseconds(text: str) -> int | None:
    """A stored time, None where it is absent, zero or malformed."""
    try:
        value = times.parse(text)
    except ValueError:
        return None
    return None if value == times.ZERO else value


def as_json(found: Sequence[Row], *, pretty: bool = False) -> str:
    """One line, or indented by four spaces; no newline at the end."""
    return dumps([json_row(row) for row in found], indent=4 if pretty else None).decode("utf-8", "replace")


def json_row(row: Row) -> dict[str, Any]:
    """The JSON object of one row, keys in the original's order; with details where they were asked for."""
    backup, metadata = row
    out: dict[str, Any] = {
        "backup_name": backup.name,
        "time": (times.format_local if is_local(backup) else times.format_utc)(backup.modified_ns),
        "wal_file_name": backup.wal_name,
        "storage_name": backup.storage.name,
    }
    if metadata is None:
        return out
    out |= {
        "start_time": metadata.start_time or _ZERO_TIME,
        "finish_time": metadata.finish_time or _ZERO_TIME,
        "date_fmt": metadata.date_format,
        "hostname": metadata.hostname,
        "data_dir": metadata.data_dir,
        "pg_version": metadata.pg_version,
        "start_lsn": metadata.start_lsn,
        "finish_lsn": metadata.finish_lsn,
        "is_permanent": metadata.is_permanent,
        "system_identifier": metadata.system_identifier,
        "uncompressed_size": metadata.uncompressed_size,
        "compressed_size": metadata.compressed_size,
    }
    if metadata.user_data is not None:
        out["user_data"] = user_data(metadata.user_data)
    return out


def as_table(found: Sequence[Row], *, pretty: bool, detail: bool) -> str:
    """The plain or the boxed table, with its newline; "" without rows."""
    if not found:
        return ""
    columns = _COLUMNS + (_DETAIL_COLUMNS if detail else ())
    clock = times.format_rfc850 if pretty else _seconds
    cells = [_cells(row, clock, pretty) for row in found]
    if pretty:
        return table.pretty([title for _, title in columns], cells)
    return table.plain([name for name, _ in columns], cells)


def _seconds(ns: int) -> str:
    return times.format_utc(ns, 0)


def is_local(backup: Backup) -> bool:
    """Whether the modification time comes from a file: the original shows those in this host's zone."""
    return backup.storage.description.startswith(("file:", "ssh:", "sftp:"))


def _modified(backup: Backup, pretty: bool) -> str:
    local = is_local(backup)
    if pretty:
        return times.format_rfc850(backup.modified_ns, local=local)
    return (times.format_local if local else times.format_utc)(backup.modified_ns, 0)


def _cells(row: Row, clock: Callable[[int], str], pretty: bool) -> list[str]:
    backup, metadata = row
    out = [backup.name, _modified(backup, pretty), backup.wal_name, backup.storage.name]
    if metadata is not None:
        stamps = [nanoseconds(text) for text in (metadata.start_time, metadata.finish_time)]
        out += ["-" if stamp is None else clock(stamp) for stamp in stamps]
        out += [
            metadata.hostname,
            metadata.data_dir,
            str(metadata.pg_version),
            format_lsn(metadata.start_lsn),
            format_lsn(metadata.finish_lsn),
            "true" if metadata.is_permanent else "false",
        ]
    return out
