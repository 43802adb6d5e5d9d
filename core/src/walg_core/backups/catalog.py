"""Which backups exist: one per sentinel, in the order in which they were made (spec/stream-backups.md 7).

The original orders by the sentinel's modification time, so that marking or copying an old backup makes it `LATEST`.
Where a name carries its time, that counts here; other names go by the sentinel's time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from walg_core.backups import times
from walg_core.backups.names import FOLDER as FOLDER
from walg_core.backups.names import LATEST as LATEST
from walg_core.backups.names import SENTINEL_SUFFIX as SENTINEL_SUFFIX
from walg_core.backups.names import sentinel_key as sentinel_key
from walg_core.errors import WalgError
from walg_core.storage.api import Storage

NO_SEGMENT = "Z" * 24
_STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")


def name_time(text: str) -> int | None:
    """The first `YYYYMMDDTHHMMSSZ` in a name or path as nanoseconds since the epoch; None without one."""
    for found in _STAMP.finditer(text):
        try:
            return times.parse_stamp(found.group())
        except ValueError:
            continue
    return None


class NoBackups(WalgError):
    """There is no backup, or none that fits what was asked for."""

    def __init__(self, message: str = "No backups found", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)


class BackupNotFound(NoBackups):
    """The named backup does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Backup '{name}' does not exist.", hint="`wal-g backup-list` shows the names")


@dataclass(frozen=True, slots=True)
class BackupObject:
    """A backup that exists. `key` is its sentinel's, relative to the storage's root."""

    name: str
    key: str
    modified_ns: int
    storage_name: str = "default"

    @property
    def order(self) -> tuple[int, int]:
        """When it was made: the time in its name, else the sentinel's (nanoseconds); then the sentinel's."""
        stamp = name_time(self.name)
        return (self.modified_ns if stamp is None else stamp, self.modified_ns)

    @property
    def wal_file_name(self) -> str:
        """The first 24 upper-case hex digits of the sentinel's name, else 24 times `Z`."""
        run = 0
        for at, character in enumerate(self.name):
            run = run + 1 if character in "0123456789ABCDEF" else 0
            if run == 24:
                return self.name[at - 23 : at + 1]
        return NO_SEGMENT


def name_of(key: str) -> str:
    """The backup's name in an object's key: the last path component cut at the first `_backup`."""
    return key.rsplit("/", 1)[-1].split("_backup", 1)[0]


def list_backups(storage: Storage, folder: str = FOLDER) -> list[BackupObject]:
    """All backups of one storage, oldest first; equal times in name order."""
    found = [
        BackupObject(name_of(info.key), info.key, info.modified_ns, storage.name)
        for info in storage.list_dir(folder)
        if info.key.endswith(SENTINEL_SUFFIX)
    ]
    return sorted(found, key=lambda backup: backup.order)


def list_all(storages: Iterable[Storage], folder: str = FOLDER) -> list[BackupObject]:
    """The backups of several storages in one list, oldest first."""
    found = [backup for storage in storages for backup in list_backups(storage, folder)]
    return sorted(found, key=lambda backup: backup.order)


def latest(storage: Storage, folder: str = FOLDER) -> BackupObject:
    """The backup that was made last. Raises NoBackups."""
    backups = list_backups(storage, folder)
    if not backups:
        raise NoBackups
    return backups[-1]


def find(storage: Storage, name: str, folder: str = FOLDER) -> BackupObject:
    """The backup of that name, or the newest for `LATEST`. Raises BackupNotFound, NoBackups."""
    if name == LATEST:
        return latest(storage, folder)
    key = sentinel_key(name, folder)
    if not name or "/" in name or not storage.exists(key):
        raise BackupNotFound(name)
    return BackupObject(name, key, storage.stat(key).modified_ns, storage.name)
