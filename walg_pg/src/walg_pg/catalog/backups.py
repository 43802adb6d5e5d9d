"""Which backups there are, and one backup's objects (spec/postgres-backup.md 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from walg_core.backups.catalog import BackupNotFound, NoBackups
from walg_core.errors import IntegrityError, ObjectNotFound, UsageError
from walg_core.observe import log
from walg_core.storage.keys import key_problem

from walg_pg.names import (
    BASEBACKUPS,
    CATCHUP,
    FILES_METADATA_NAME,
    METADATA_NAME,
    SENTINEL_SUFFIX,
    name_from_key,
    wal_file_name,
)
from walg_pg.sentinel import (
    BackupMetadata,
    FilesMetadata,
    Known,
    Sentinel,
    read_files_metadata,
    read_known_files,
    read_metadata,
    read_sentinel,
)

if TYPE_CHECKING:
    from walg_core.storage.api import ObjectInfo, Storage

LATEST = "LATEST"
_METADATA_LIMIT = 1 << 24
_FILES_LIMIT = 8 << 30


class Backup(NamedTuple):
    """One backup that exists: its sentinel's `key` (with the folder) and modification time in nanoseconds."""

    name: str
    folder: str
    modified_ns: int
    storage: Storage

    @property
    def key(self) -> str:
        return f"{self.folder}{self.name}{SENTINEL_SUFFIX}"

    @property
    def prefix(self) -> str:
        """Where the backup's other objects are."""
        return f"{self.folder}{self.name}/"

    @property
    def wal_name(self) -> str:
        """The first 24 hex digits in the name, or 24 times `Z`."""
        return wal_file_name(self.name)

    def sentinel(self) -> Sentinel:
        """Raises ObjectNotFound, IntegrityError."""
        return read_sentinel(self.storage.get(self.key, _METADATA_LIMIT * 64), self.key)

    def metadata(self) -> BackupMetadata:
        """`metadata.json`; raises ObjectNotFound, IntegrityError."""
        key = self.prefix + METADATA_NAME
        return read_metadata(self.storage.get(key, _METADATA_LIMIT), key)

    def files_metadata(self) -> FilesMetadata:
        """`files_metadata.json`; raises ObjectNotFound, IntegrityError."""
        key = self.prefix + FILES_METADATA_NAME
        return read_files_metadata(_text(self.storage.get(key, _FILES_LIMIT)), key)

    def known_files(self) -> dict[str, Known]:
        """The rows of its file list as a delta needs them; raises ObjectNotFound, IntegrityError."""
        key = self.prefix + FILES_METADATA_NAME
        return read_known_files(_text(self.storage.get(key, _FILES_LIMIT)), key)

    def parts(self) -> list[ObjectInfo]:
        """The tars, sorted by key."""
        return list(self.storage.list_dir(self.prefix + "tar_partitions/"))


def _text(data: bytes) -> bytes | str:
    """The JSON decoded, so that its bytes need not stay beside its text; as it is where it cannot be."""
    try:
        return data.decode("utf-8")
    except ValueError:
        return data


def list_backups(storages: Sequence[Storage], folder: str = BASEBACKUPS) -> list[Backup]:
    """All backups of all `storages`, by modification time of the sentinel; equal times keep name order."""
    found = []
    for storage in storages:
        for info in storage.list_dir(folder):
            if info.key.endswith(SENTINEL_SUFFIX):
                name = info.key[len(folder) : -len(SENTINEL_SUFFIX)]
                if name == name_from_key(info.key) and name:
                    found.append(Backup(name, folder, info.modified_ns, storage))
    found.sort(key=lambda backup: backup.modified_ns)
    return found


def find_backup(storages: Sequence[Storage], name: str, folder: str = BASEBACKUPS) -> Backup:
    """The backup called `name` (or `LATEST`) in the first storage that has it. Raises NoBackups, UsageError."""
    if name == LATEST:
        backups = list_backups(storages, folder)
        if not backups:
            command = "catchup-push" if folder == CATCHUP else "backup-push"
            raise NoBackups(hint=f"make one with `wal-g {command}`, or check the storage's settings")
        return backups[-1]
    key = f"{folder}{name}{SENTINEL_SUFFIX}"
    problem = key_problem(key) or ("it has a slash" if "/" in name else None)
    if problem:
        raise UsageError(f"{name!r} is not the name of a backup: {problem}")
    for storage in storages:
        try:
            info = storage.stat(key)
        except ObjectNotFound:
            continue
        return Backup(name, folder, info.modified_ns, storage)
    raise BackupNotFound(name)


def find_by_user_data(storages: Sequence[Storage], user_data: Any, folder: str = BASEBACKUPS) -> Backup:
    """The only backup whose user data equals `user_data`; UsageError when several do, NoBackups when none does."""
    found = []
    for backup in list_backups(storages, folder):
        try:
            metadata = backup.metadata()
        except (ObjectNotFound, IntegrityError) as error:
            log.warning(f"backup {backup.name} is not searched: its metadata.json cannot be read ({error})")
            continue
        if same_json(metadata.user_data, user_data):
            found.append(backup)
    if len(found) > 1:
        names = ", ".join(backup.name for backup in found)
        raise UsageError(f"too many backups have this user data: {names}", hint="name the backup instead")
    if not found:
        raise NoBackups(
            "no backup has this user data", hint="`wal-g backup-list --detail --json` shows every backup's user data"
        )
    return found[0]


def same_json(left: Any, right: Any) -> bool:
    """Deep equality of JSON values, in which 1 and true differ but 1 and 1.0 do not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)
