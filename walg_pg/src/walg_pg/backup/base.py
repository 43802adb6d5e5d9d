"""The base of a delta backup: which one, or none (spec/postgres-backup.md 9.1, 9.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from walg_core.backups import times
from walg_core.backups.catalog import NoBackups
from walg_core.context import Context
from walg_core.errors import EngineError, IntegrityError, ObjectNotFound, UsageError, WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_pg import names
from walg_pg.backup.mode import ServerFacts
from walg_pg.backup.options import PushOptions
from walg_pg.catalog.backups import Backup, find_backup, find_by_user_data
from walg_pg.catalog.mark import set_permanent
from walg_pg.journal.history import local_history
from walg_pg.lsn import format_lsn
from walg_pg.sentinel import Known, Sentinel, dict_of_known, packed_time


@dataclass(slots=True)
class Base:
    """What a delta builds on. `count` is the delta's own number, `full_name` the full backup of the chain."""

    backup: Backup
    sentinel: Sentinel
    files: dict[str, Known]
    count: int
    full_name: str

    @property
    def name(self) -> str:
        return self.backup.name

    @property
    def lsn(self) -> int:
        """The base's start LSN."""
        assert self.sentinel.start_lsn is not None
        return self.sentinel.start_lsn

    def take(self, name: str, mtime: int) -> bool:
        """Whether the base has the file with exactly this modification time (nanoseconds).

        Every file is asked for once: its row is given up, so that the two lists are never both in memory as a whole.
        """
        entry = self.files.pop(name, None)
        return entry is not None and same_time(entry, mtime)


def same_time(entry: Known, mtime: int) -> bool:
    """Whether a recorded modification time is exactly `mtime` (nanoseconds)."""
    if isinstance(entry, bytes):
        return entry == packed_time(mtime)
    return bool(entry.mtime) and times.parse(entry.mtime) == mtime


def choose(context: Context, storage: Storage, options: PushOptions, facts: ServerFacts) -> Base | None:
    """The base for a new backup, None for a full one. Raises UsageError, NoBackups for what was asked by name."""
    most = context.config.get("WALG_DELTA_MAX_STEPS")
    if options.full or most <= 0:
        return None
    candidate = _candidate(storage, options)
    if candidate is None:
        return None
    sentinel = candidate.sentinel()
    count = (sentinel.delta_count or 0) + 1
    reason = _unfit(context, candidate, sentinel, count, most, options)
    if reason:
        log.info(f"Making a full backup: {reason}")
        return None
    full_name = sentinel.delta_full_name or candidate.name
    if context.config.get("WALG_DELTA_ORIGIN") == "LATEST_FULL" and sentinel.is_delta:
        # The number still counts all deltas since the full backup, so that WALG_DELTA_MAX_STEPS limits those.
        candidate = find_backup([storage], full_name)
        sentinel = candidate.sentinel()
    _check_cluster(candidate, sentinel, facts)
    files = _usable_files(candidate, sentinel)
    if files is None or not _same_history(candidate, sentinel, facts):
        return None
    log.info(f"Delta backup from {candidate.name} with LSN {format_lsn(sentinel.start_lsn or 0)}")
    return Base(candidate, sentinel, files, count, full_name)


def _candidate(storage: Storage, options: PushOptions) -> Backup | None:
    if options.delta_from_name:
        return find_backup([storage], options.delta_from_name)
    if options.delta_from_user_data:
        return find_by_user_data([storage], _json(options.delta_from_user_data))
    try:
        return find_backup([storage], "LATEST")
    except NoBackups:
        log.info("Making a full backup: there is no earlier one")
        return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"--delta-from-user-data is not valid JSON: {error}") from error


def _unfit(
    context: Context, candidate: Backup, sentinel: Sentinel, count: int, most: int, options: PushOptions
) -> str | None:
    """Why the candidate cannot carry another delta, or None."""
    if count > most:
        return f"{candidate.name} would get delta number {count}, more than WALG_DELTA_MAX_STEPS={most}"
    if sentinel.start_lsn is None or sentinel.finish_lsn is None:
        return f"{candidate.name} has no LSN"
    try:
        permanent = candidate.metadata().is_permanent
    except (ObjectNotFound, IntegrityError) as error:
        return f"metadata.json of {candidate.name} cannot be read: {error}"
    origin = context.config.get("WALG_DELTA_ORIGIN")
    if permanent and not options.permanent and origin != "LATEST_FULL":
        return f"{candidate.name} is permanent and the new backup is not"
    return None


def _check_cluster(candidate: Backup, sentinel: Sentinel, facts: ServerFacts) -> None:
    known = (sentinel.system_identifier, facts.system_identifier)
    if None not in known and known[0] != known[1]:
        raise EngineError(
            f"the base {candidate.name} is of another cluster (system identifier {known[0]}, not {known[1]})",
            hint="use another storage prefix for this cluster, or push a full backup with --full",
        )


def check_position(base: Base, start_lsn: int) -> None:
    """Raises EngineError when the base ended after the new backup's start."""
    if (base.sentinel.finish_lsn or 0) > start_lsn:
        raise EngineError(
            f"the base {base.name} ended at {format_lsn(base.sentinel.finish_lsn or 0)}, after this backup's start at"
            f" {format_lsn(start_lsn)}: the cluster was put back to an earlier state",
            hint="push a full backup with --full",
        )


def _usable_files(candidate: Backup, sentinel: Sentinel) -> dict[str, Known] | None:
    """The base's file list; None, said in the log, when a delta from it would be as large as a full backup."""
    if sentinel.embedded is not None:
        return dict_of_known(sentinel.embedded)
    reason = "it was made without a file list"
    if not sentinel.files_metadata_disabled:
        try:
            files = candidate.known_files()
        except (ObjectNotFound, IntegrityError) as error:
            reason = f"its file list cannot be read: {error}"
        else:
            if any(name.startswith("/") for name in files):
                return files
            reason = "it was made through the server and its file list serves no delta"
    log.warning(f"Making a full backup: no delta can be built on {candidate.name}, {reason}")
    return None


def _same_history(candidate: Backup, sentinel: Sentinel, facts: ServerFacts) -> bool:
    """Whether the present timeline contains the whole base.

    After a restore to a point before the base's end, pages may carry older LSNs than the base's copies of them: a
    delta would not notice. The original does not look.
    """
    timeline = names.timeline_of(candidate.name)
    if timeline == facts.timeline:
        return True
    try:
        switches = local_history(f"{facts.data_directory}/pg_wal", facts.timeline)
    except (WalgError, OSError, ValueError) as error:
        log.warning(f"Making a full backup: the history of timeline {facts.timeline} cannot be read: {error}")
        return False
    if any(switch.timeline == timeline and switch.lsn >= (sentinel.finish_lsn or 0) for switch in switches):
        return True
    log.warning(
        f"Making a full backup: {candidate.name} is on timeline {timeline},"
        f" which the server's timeline {facts.timeline} left before that backup's end"
    )
    return False


def make_chain_permanent(base: Base) -> None:
    """Mark the base and all it builds on, the oldest first. Raises what the storage raises."""
    chain = [base.backup]
    sentinel = base.sentinel
    seen = {base.name}
    while sentinel.delta_from:
        if sentinel.delta_from in seen:
            raise IntegrityError(f"the chain of {base.name} has a cycle at {sentinel.delta_from}")
        seen.add(sentinel.delta_from)
        chain.append(find_backup([base.backup.storage], sentinel.delta_from))
        sentinel = chain[-1].sentinel()
    for backup in reversed(chain):
        if not backup.metadata().is_permanent:
            set_permanent(backup, True)
            log.info(f"Backup {backup.name} is now marked as permanent")
