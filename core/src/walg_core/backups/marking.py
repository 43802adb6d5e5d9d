"""Permanence: marking a backup with everything it builds on (spec/stream-backups.md 9)."""

from __future__ import annotations

from walg_core.backups import claims
from walg_core.backups.catalog import FOLDER, BackupNotFound
from walg_core.backups.sentinels import Backup, SentinelForm, children, load_all, store
from walg_core.errors import IntegrityError, WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage


def mark(storage: Storage, name: str, form: SentinelForm, *, permanent: bool, folder: str = FOLDER) -> list[str]:
    """Rewrite the sentinels concerned, ancestors first, unknown keys kept; returns the names rewritten.

    Raises BackupNotFound, WalgError where a permanent increment needs the backup, IntegrityError for a broken chain.
    """
    backups = load_all(storage, form, folder)
    named = {backup.name: backup for backup in backups}
    if name not in named:
        raise BackupNotFound(name)
    if permanent:
        chain = _chain(named, name)
    else:
        if any(child.permanent for child in children(backups, name)):
            raise WalgError(
                f"Can't mark backup '{name}' as impermanent. There is permanent increment backup that depends on this"
                " backup.",
                hint="mark the increments impermanent first",
            )
        chain = [named[name]]
    changed = []
    # A sentinel is rewritten as a whole: while its backup is being deleted it must not come back without data.
    with claims.of_mark(storage, name, named[name].parent, folder):
        claims.check_not_doomed(storage, [backup.name for backup in chain])
        for backup in chain:
            if backup.permanent == permanent:
                if backup.name == name:
                    word = "permanent" if permanent else "impermanent"
                    log.warning(f"Backup {name} is already marked as {word}, ignoring...")
                continue
            if not storage.exists(backup.entry.key):
                raise BackupNotFound(backup.name)
            backup.document.replace(form.permanent, permanent)
            store(storage, backup.entry.key, backup.document)
            changed.append(backup.name)
    return changed


def _chain(named: dict[str, Backup], name: str) -> list[Backup]:
    """From the full backup down to `name`."""
    chain: list[Backup] = []
    at: str = name
    while at:
        if at not in named:
            raise IntegrityError(f"backup {chain[-1].name} builds on '{at}', which does not exist")
        if named[at] in chain:
            raise IntegrityError(f"the increments of {name} build on each other in a circle")
        chain.append(named[at])
        at = named[at].parent
    return chain[::-1]
