"""`backup-mark`: the permanent flag in `metadata.json` (spec/postgres-backup.md 12 and 16 item 20).

The sentinel's own flag is left alone: rewriting the sentinel would change its modification time, by which LATEST
and every list are ordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from walg_core.backups.catalog import BackupNotFound
from walg_core.backups.claims import check_not_doomed
from walg_core.backups.gojson import dumps
from walg_core.errors import WalgError
from walg_core.observe import log

from walg_pg.catalog.backups import Backup, find_backup
from walg_pg.catalog.history import History, Record, read_history
from walg_pg.names import BASEBACKUPS, METADATA_NAME
from walg_pg.sentinel import load_object

if TYPE_CHECKING:
    from walg_core.storage.api import Storage


class StillNeeded(WalgError):
    """A permanent delta needs the backup that was to lose its mark."""


def mark(storages: Sequence[Storage], name: str, *, permanent: bool, segment_size: int) -> list[str]:
    """Set or take away the mark; returns the names of the backups that changed. Raises StillNeeded, NoBackups.

    A permanent delta makes its whole chain permanent, the oldest first, so that an interruption never leaves a
    permanent delta on a base that may be deleted.
    """
    backup = find_backup(storages, name)
    history = read_history(storages, segment_size=segment_size)
    record = history.by_name[(backup.storage.name, backup.name)]
    if permanent:
        chain = [*reversed(history.ancestors(record)), record]
    else:
        _check_descendants(history, record)
        chain = [record]
    if record.permanent == permanent:
        state = "permanent" if permanent else "impermanent"
        log.warning(f"Backup {record.name} is already marked as {state}, ignoring...")
    changed = []
    for each in chain:
        if each.permanent != permanent:
            storage = next(storage for storage in storages if storage.name == each.storage)
            _set_safely(Backup(each.name, BASEBACKUPS, 0, storage), permanent)
            changed.append(each.name)
            log.info(f"Backup {each.name} is now marked as {'permanent' if permanent else 'impermanent'}")
    return changed


def _set_safely(backup: Backup, permanent: bool) -> None:
    """Set the flag unless a deletion takes the backup at the same time. Raises WalgError then."""
    if permanent:
        check_not_doomed(backup.storage, [backup.name])
    set_permanent(backup, permanent)
    if permanent:
        if not backup.storage.exists(backup.key):
            backup.storage.delete([backup.prefix + METADATA_NAME])
            raise BackupNotFound(backup.name)
        check_not_doomed(backup.storage, [backup.name])


def _check_descendants(history: History, record: Record) -> None:
    needing = [each.name for each in history.dependents(record) if each.permanent]
    if needing:
        raise StillNeeded(
            f"Backup {record.name} cannot lose its mark: permanent backups build on it ({', '.join(needing)})",
            hint=f"unmark {needing[-1]} first",
        )


def set_permanent(backup: Backup, permanent: bool) -> None:
    """Rewrite the flag in `metadata.json`; all other keys, known or not, keep their values and places."""
    key = backup.prefix + METADATA_NAME
    values = load_object(backup.storage.get(key, 1 << 24), key)
    own = next((name for name in values if name.lower() == "is_permanent"), "is_permanent")
    values[own] = permanent
    backup.storage.put_bytes(key, dumps(values))
