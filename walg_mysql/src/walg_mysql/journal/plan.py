"""What a point-in-time restore takes: the backup, its chain, the binlogs, and whether they reach the target."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.backups import sentinels, times
from walg_core.backups.catalog import NoBackups, find
from walg_core.errors import EngineError

from walg_mysql.journal.archive import Binlog, list_binlogs, split_name
from walg_mysql.journal.events import read_events
from walg_mysql.journal.gtid import GtidSet, contains
from walg_mysql.journal.positions import archived_start
from walg_mysql.journal.ranges import SECOND, start_of, start_time
from walg_mysql.journal.transactions import gtid_of
from walg_mysql.restore.chain import Link, chain
from walg_mysql.sentinel import FORM

if TYPE_CHECKING:
    from walg_core.backups.sentinels import Backup
    from walg_core.context import Context
    from walg_core.storage.api import Storage


@dataclass(frozen=True, slots=True)
class Target:
    """Where to end: before the second `time_ns` or after the transaction `gtid`; neither: everything archived."""

    time_ns: int | None = None
    gtid: GtidSet | None = None

    def __str__(self) -> str:
        if self.gtid is not None:
            return f"transaction {self.gtid}"
        return "the end of the archive" if self.time_ns is None else f"before {times.format_local(self.time_ns)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """`gaps` are binlogs that must be there and are not; `end_ns` is how far the archive goes."""

    target: Target
    chain: list[Link]
    binlogs: list[Binlog]
    gaps: list[str]
    end_ns: int | None
    reached: bool

    @property
    def backup(self) -> Backup:
        return self.chain[-1].backup

    @property
    def problems(self) -> list[str]:
        """Why the target cannot be restored, if so."""
        found = [f"binlog {name} is missing in the archive" for name in self.gaps]
        if not self.reached:
            end = "" if self.end_ns is None else f", which ends at {times.format_local(self.end_ns)}"
            found.append(f"{self.target} is not in the archive{end}")
        return found

    def text(self) -> str:
        """For people, one fact a line."""
        lines = [f"target:   {self.target}", f"backup:   {self.backup.name}"]
        for link in self.chain:
            kind = "increment" if link.sentinel.incremental else "full"
            lines.append(f"  fetch   {link.name} ({kind}, {link.sentinel.stored_size} bytes stored)")
        size = sum(binlog.size for binlog in self.binlogs)
        if self.binlogs:
            names = f"{self.binlogs[0].name} to {self.binlogs[-1].name}"
            lines.append(f"  replay  {names} ({len(self.binlogs)} binlogs, {size} bytes stored)")
        else:
            lines.append("  replay  nothing")
        lines.append("complete: " + ("no: " + "; ".join(self.problems) if self.problems else "yes"))
        return "\n".join(lines) + "\n"

    def check(self) -> None:
        """Raises EngineError with everything that is in the way of the target."""
        if self.problems:
            raise EngineError(
                f"cannot restore to {self.target}: {'; '.join(self.problems)}",
                hint="binlog-push archives only complete binlogs: WALG_MYSQL_FLUSH_BINLOGS=true completes the last one "
                "if the server still runs; without a target everything archived is restored",
            )


def make(context: Context, storage: Storage, target: Target, name: str = "") -> Plan:
    """Choose the backup (the newest that was finished before the target, or `name`) and the binlogs.

    Raises NoBackups, EngineError when the GTID is not archived, IntegrityError, StorageError.
    """
    moment = target.time_ns
    binlogs = list_binlogs(storage)
    if target.gtid is not None:
        holder, moment = _holder_of(context, storage, binlogs, target.gtid)
        binlogs = binlogs[: holder + 1]
    backup = _choose(storage, moment, name)
    links = chain(storage, backup)
    needed = _from_backup(storage, binlogs, links[-1])
    end: int | None = None
    reached = target.time_ns is None
    if target.time_ns is not None:
        needed, end, reached = _until(context, storage, needed, target.time_ns)
    return Plan(target, links, needed, _gaps(needed, links[-1].sentinel.binlog_start), end, reached)


def _holder_of(context: Context, storage: Storage, binlogs: list[Binlog], gtid: GtidSet) -> tuple[int, int]:
    """Index of the binlog that holds a transaction, and when that was made (ns, to the second). Raises EngineError."""

    def had_it_before(binlog: Binlog) -> bool:
        start = archived_start(context, storage, binlog)
        return start is not None and contains(start, gtid)

    at = bisect.bisect_left(binlogs, True, key=had_it_before)
    if at:
        holder = binlogs[at - 1]
        source = holder.open(context, storage)
        try:
            for event in read_events(source, holder.name):
                found = gtid_of(event)
                if found is not None and found == gtid:
                    return at - 1, event.timestamp * SECOND
        finally:
            source.close()
    raise EngineError(
        f"transaction {gtid} is not in the archived binlogs",
        hint="is it still in the server's active binlog? WALG_MYSQL_FLUSH_BINLOGS=true with binlog-push archives that",
    )


def _choose(storage: Storage, moment: int | None, name: str) -> Backup:
    if name:
        return sentinels.load(storage, find(storage, name), FORM)
    found = []
    for backup in sentinels.load_all(storage, FORM):
        sentinel = Link.of(backup).sentinel
        stop = backup.entry.modified_ns if sentinel.stop_ns == times.ZERO else sentinel.stop_ns
        if moment is None or stop <= moment:
            found.append((stop, backup.name, backup))
    if not found:
        when = "" if moment is None else f" finished before {times.format_local(moment)}"
        raise NoBackups(f"no backup{when}", hint="`wal-g mysql backup-list --detail` shows when backups were finished")
    return max(found, key=lambda each: each[:2])[2]


def _from_backup(storage: Storage, binlogs: list[Binlog], link: Link) -> list[Binlog]:
    """From the backup's first binlog on; where that one is unknown, from its time on."""
    for at, binlog in enumerate(binlogs):
        if binlog.name == link.sentinel.binlog_start:
            return binlogs[at:]
    start = start_of(storage, link.name)
    return [binlog for binlog in binlogs if binlog.modified_ns >= start]


def _until(
    context: Context, storage: Storage, binlogs: list[Binlog], time_ns: int
) -> tuple[list[Binlog], int | None, bool]:
    """The binlogs that begin before a time; how far they go if that is not known to be far enough; whether it is."""
    for at, binlog in enumerate(binlogs):
        # What was uploaded before the target was begun before it.
        if binlog.modified_ns >= time_ns and start_time(context, storage, binlog) * SECOND >= time_ns:
            return binlogs[:at], None, True
    if not binlogs:
        return [], None, False
    source = binlogs[-1].open(context, storage)
    try:
        end = max(event.timestamp for event in read_events(source, binlogs[-1].name)) * SECOND
    finally:
        source.close()
    return binlogs, end, end + SECOND > time_ns


def _gaps(binlogs: list[Binlog], first: str) -> list[str]:
    """Missing names: the backup's own first binlog, and numbers between neighbours of one prefix."""
    gaps = []
    if first and all(binlog.name != first for binlog in binlogs):
        gaps.append(first)
    for left, right in itertools.pairwise(binlogs):
        (prefix, number), (other, following) = split_name(left.name), split_name(right.name)
        if prefix == other and following > number + 1:
            width = len(left.name) - len(prefix) - 1
            gaps.append(f"{prefix}.{number + 1:0{width}}")
    return gaps
