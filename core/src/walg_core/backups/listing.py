"""The default `backup-list` of every engine, in its three forms (spec/stream-backups.md 8)."""

from __future__ import annotations

from collections.abc import Sequence

from walg_core.backups import gojson, table, times
from walg_core.backups.catalog import BackupObject

COLUMNS = (
    ("backup_name", "Backup name"),
    ("modified", "Modified"),
    ("wal_file_name", "WAL file name"),
    ("storage_name", "Storage name"),
)


def as_json(backups: Sequence[BackupObject], *, pretty: bool = False) -> str:
    """One line, or indented by four spaces; without a newline at the end."""
    rows = [
        {
            "backup_name": backup.name,
            "time": times.format_local(backup.modified_ns),
            "wal_file_name": backup.wal_file_name,
            "storage_name": backup.storage_name,
        }
        for backup in backups
    ]
    return gojson.dumps(rows, indent=4 if pretty else None).decode("utf-8", "replace")


def as_table(backups: Sequence[BackupObject], *, pretty: bool = False) -> str:
    """Plain columns or a box, ending in a newline; "" without backups."""
    if not backups:
        return ""
    rows = [[b.name, moment(b.modified_ns, pretty=pretty), b.wal_file_name, b.storage_name] for b in backups]
    if pretty:
        return table.pretty([title for _, title in COLUMNS], rows)
    return table.plain([name for name, _ in COLUMNS], rows)


def moment(ns: int | None, *, pretty: bool = False) -> str:
    """A time as tables show it, in this host's zone: RFC 3339 to the second, pretty RFC 850; `-` for none."""
    if ns is None or ns == times.ZERO:
        return "-"
    return times.format_rfc850(ns, local=True) if pretty else times.format_local(ns, 0)
