"""Point-in-time recovery: choosing the backup that reaches the target, and the settings that lead there.

Settings as of PostgreSQL's documentation, chapter "Archive Recovery" and "Recovery Target": from version 12 on they
are ordinary settings with a signal file, before that `recovery.conf`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.backups import times
from walg_core.backups.catalog import NoBackups
from walg_core.errors import UsageError
from walg_core.io.destination import components

from walg_pg.catalog.backups import Backup, list_backups
from walg_pg.catalog.listing import nanoseconds
from walg_pg.journal.history import archived_history
from walg_pg.lsn import parse_lsn
from walg_pg.names import WAL_FOLDER, timeline_of

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.io.destination import Destination
    from walg_core.storage.api import Storage

    from walg_pg.sentinel import Sentinel

_AUTO_CONF = "postgresql.auto.conf"
_OURS = re.compile(rb"^\s*(restore_command|recovery_target\w*)\s*=")
_ACTIONS = ("pause", "promote", "shutdown")


@dataclass(frozen=True, slots=True)
class Target:
    """Where recovery shall end. At most one of `time`, `lsn`, `name`, `xid`; texts as given."""

    time: str = ""
    lsn: str = ""
    name: str = ""
    xid: str = ""
    timeline: str = ""
    action: str = ""

    def __bool__(self) -> bool:
        return any((self.time, self.lsn, self.name, self.xid, self.timeline, self.action))

    def check(self) -> None:
        """Raises UsageError for contradictions and malformed values."""
        given = [flag for flag, value in self._exclusive() if value]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other: recovery has one target")
        if self.lsn:
            _lsn(self.lsn)
        if self.time:
            _moment(self.time)
        if self.xid and not self.xid.isdigit():
            raise UsageError(f"--target-xid: {self.xid!r} is not a transaction number")
        if self.timeline and self.timeline not in ("latest", "current") and not self.timeline.isdigit():
            raise UsageError(f"--target-timeline: {self.timeline!r} is not a number, latest or current")
        if self.action and self.action not in _ACTIONS:
            raise UsageError(f"--target-action: {self.action!r} is none of {', '.join(_ACTIONS)}")

    def _exclusive(self) -> list[tuple[str, str]]:
        return [
            ("--target-time", self.time),
            ("--target-lsn", self.lsn),
            ("--target-name", self.name),
            ("--target-xid", self.xid),
        ]

    def settings(self) -> dict[str, str]:
        """The `recovery_target*` settings."""
        rows = {
            "recovery_target_time": self.time and postgres_time(_moment(self.time)),
            "recovery_target_lsn": self.lsn,
            "recovery_target_name": self.name,
            "recovery_target_xid": self.xid,
            "recovery_target_timeline": self.timeline,
            "recovery_target_action": self.action,
        }
        return {name: value for name, value in rows.items() if value}


def _moment(text: str) -> int:
    try:
        return times.parse(text)
    except ValueError as error:
        raise UsageError(f"--target-time: {error}", hint="a time without a zone is taken as UTC") from None


def _lsn(text: str) -> int:
    try:
        return parse_lsn(text)
    except ValueError as error:
        raise UsageError(f"--target-lsn: {error}") from None


def postgres_time(ns: int) -> str:
    """`2026-11-22 12:00:05.165857+00`: unambiguous whatever the server's settings."""
    return times.format_utc(ns, 6).replace("T", " ").replace("Z", "+00")


def choose(context: Context, storages: Sequence[Storage], target: Target) -> Backup:
    """The newest backup from which the target can be reached. Raises NoBackups.

    For a restore point's name or a transaction, whose times are not known beforehand, that is the newest backup of
    the timeline; an older one can be named on the command line.
    """
    chosen: Backup | None = None
    for backup in list_backups(storages):
        if _reaches(context, backup, backup.sentinel(), target):
            chosen = backup
    if chosen is None:
        raise NoBackups(
            "no backup was finished before the target of the recovery",
            hint="`wal-g backup-list --detail` shows when each backup ended; the target must be later than one of them",
        )
    return chosen


def _reaches(context: Context, backup: Backup, sentinel: Sentinel, target: Target) -> bool:
    finish = sentinel.finish_lsn or 0
    if target.time and (nanoseconds(sentinel.finish_time) or backup.modified_ns) > _moment(target.time):
        return False
    if target.lsn and finish > _lsn(target.lsn):
        return False
    if target.timeline.isdigit():
        wanted, own = int(target.timeline), timeline_of(backup.name)
        if own == wanted:
            return True
        switches = archived_history(context, backup.storage.folder(WAL_FOLDER), wanted)
        return any(switch.timeline == own and switch.lsn >= finish for switch in switches)
    return True


def restore_command(context: Context, config_file: str = "") -> str:
    """The command with which the server fetches WAL: this very program with this configuration."""
    program = list(context.program) or ["wal-g"]
    if config_file:
        program += ["--config", os.path.abspath(config_file)]
    return f'{shlex.join(program)} wal-fetch "%f" "%p"'


def write_settings(root: Destination, version: int, values: dict[str, str]) -> None:
    """Put the settings into the restored cluster, replacing those of earlier recoveries, and the signal file.

    `version` is `server_version_num`.
    """
    lines = [f"{name} = '{_quoted(value)}'".encode() for name, value in values.items()]
    if version < 120000:
        root.write_file(components("recovery.conf"), b"\n".join(lines) + b"\n", 0o600)
        return
    old = root.read_file(components(_AUTO_CONF)) or b""
    kept = [line for line in old.splitlines() if not _OURS.match(line)]
    root.write_file(components(_AUTO_CONF), b"\n".join([*kept, *lines]) + b"\n", 0o600)
    root.remove(components("standby.signal"))
    root.write_file(components("recovery.signal"), b"", 0o600)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
