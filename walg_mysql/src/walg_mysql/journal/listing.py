"""`binlog-list` and `binlog-find` (spec/mysql.md 7.4, 7.8; 14, row 19)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from walg_core.backups import gojson, table, times
from walg_core.backups.listing import moment
from walg_core.errors import UsageError

from walg_mysql.journal.archive import Binlog, list_binlogs
from walg_mysql.journal.gtid import GtidSet, MariadbGtidSet, MysqlGtidSet
from walg_mysql.journal.ranges import bound

if TYPE_CHECKING:
    from walg_core.storage.api import Storage


def between(storage: Storage, since: str, until: str) -> list[Binlog]:
    """The binlogs uploaded within the bounds, both inclusive, in replay order. Raises UsageError, NoBackups."""
    first = bound(storage, since, "--since", times.ZERO)
    last = bound(storage, until, "--until", times.now())
    if first > last:
        raise UsageError(f"invalid time range: since {times.format_utc(first)} is after until {times.format_utc(last)}")
    return [binlog for binlog in list_binlogs(storage) if first <= binlog.modified_ns <= last]


def as_table(binlogs: Sequence[Binlog], *, pretty: bool = False) -> str:
    """Plain columns or a box; times in this host's zone."""
    rows = [[binlog.name, str(binlog.size), moment(binlog.modified_ns)] for binlog in binlogs]
    if pretty:
        return table.pretty(["Name", "Size", "Modified"], rows)
    return table.plain(["name", "size", "modified"], rows)


def as_json(binlogs: Sequence[Binlog], *, pretty: bool = False) -> str:
    """One array; without a newline at the end."""
    rows: list[dict[str, Any]] = []
    for binlog in binlogs:
        row: dict[str, Any] = {"name": binlog.name}
        if binlog.size:
            row["size"] = binlog.size
        row["last_modified"] = times.format_local(binlog.modified_ns)
        rows.append(row)
    return gojson.dumps(rows, indent=4 if pretty else None).decode("utf-8", "replace")


def parse_gtids(text: str, flag: str = "--gtid") -> GtidSet:
    """A GTID set of either family. Raises UsageError."""
    failures = []
    for family in (MysqlGtidSet, MariadbGtidSet):
        try:
            return family.parse(text)
        except ValueError as error:
            failures.append(str(error))
    raise UsageError(
        f"{flag}: {text!r} is no GTID set: {failures[-1] if '-' in text and ':' not in text else failures[0]}",
        hint="MySQL: 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77; MariaDB: 0-1-77",
    )


def parse_gtid(text: str, flag: str) -> GtidSet:
    """One transaction's GTID, as a set of one. Raises UsageError."""
    gtids = parse_gtids(text, flag)
    if isinstance(gtids, MysqlGtidSet):
        intervals = [interval for each in gtids.entries.values() for interval in each]
        single = len(intervals) == 1 and intervals[0][0] == intervals[0][1]
    else:
        single = len(gtids.domains) == 1
    if not single:
        raise UsageError(f"{flag}: {text!r} is not one transaction", hint="give the GTID of the last one to restore")
    return gtids
