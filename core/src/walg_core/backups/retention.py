"""Purging by policy: how many to keep, and from when on (spec/stream-backups.md 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from walg_core.backups import claims
from walg_core.backups.catalog import FOLDER, SENTINEL_SUFFIX
from walg_core.backups.deletion import Candidate
from walg_core.observe import log
from walg_core.storage.api import Storage


def split(
    backups: Sequence[Candidate], *, count: int | None = None, after_ns: int | None = None
) -> tuple[list[Candidate], list[Candidate]]:
    """`(purged, retained)`, both newest first.

    Permanent backups stay and do not count; the `count` newest others stay; then those begun strictly after
    `after_ns`. Without any policy everything stays.
    """
    purged: list[Candidate] = []
    retained: list[Candidate] = []
    left = count or 0
    for backup in sorted(backups, key=lambda each: each.start_ns, reverse=True):
        keep = backup.permanent or (count is None and after_ns is None)
        if not keep and left > 0:
            left -= 1
            keep = True
        if not keep and after_ns is not None:
            keep = backup.start_ns > after_ns
        (retained if keep else purged).append(backup)
    return purged, retained


def garbage_prefixes(storage: Storage, backups: Sequence[Candidate], folder: str = FOLDER) -> list[str]:
    """Names of the sub-folders that belong to no backup. A running push looks the same but for its claim."""
    names = {backup.name for backup in backups}
    found = [prefix[len(folder) :].rstrip("/") for prefix in storage.list_dirs(folder)]
    return [name for name in found if name not in names]


def remove_backup(storage: Storage, name: str, folder: str = FOLDER) -> None:
    """Delete one backup: its sentinel first, so that it is never offered half deleted. Raises StorageError."""
    storage.delete([f"{folder}{name}{SENTINEL_SUFFIX}"])
    remove_folder(storage, f"{folder}{name}/")


def remove_folder(storage: Storage, prefix: str) -> None:
    """Delete everything below `prefix`."""
    storage.delete([info.key for info in storage.list(prefix)])


def purge(
    storage: Storage,
    load: Callable[[], Sequence[Candidate]],
    *,
    count: int | None,
    after_ns: int | None,
    garbage: bool,
    confirm: bool,
) -> None:
    """Log what goes and stays and, confirmed, delete it. Raises StorageError.

    `load` reads the backups: once, and again after the deletion was announced (see `deletion.carry_out`).
    """

    def choose() -> tuple[list[Candidate], list[Candidate], list[str], dict[str, claims.Claim]]:
        running = {claim.name: claim for claim in claims.live(storage, claims.BACKUP)}
        backups = load()
        purged, retained = split(backups, count=count, after_ns=after_ns)
        litter = [name for name in garbage_prefixes(storage, backups) if name not in running] if garbage else []
        return [each for each in purged if each.name not in running], retained, litter, running

    purged, retained, litter, running = choose()
    log.info(f"Backups selected to be deleted: [{' '.join(backup.name for backup in purged)}]")
    log.info(f"Backups selected to be retained: [{' '.join(backup.name for backup in retained)}]")
    for name, claim in running.items():
        log.info(f"Backup {name} is kept: it is {claim}")
    if garbage:
        log.info(f"Garbage prefixes in backups folder: [{' '.join(litter)}]")
    if not confirm:
        if purged or litter:
            log.info("Dry run: run with --confirm to execute")
        return
    with claims.of_deletion(storage, [*(backup.name for backup in purged), *litter]):
        again, _, litter_again, _ = choose()
        names = {backup.name for backup in again}
        purged = [backup for backup in purged if backup.name in names]
        for backup in purged:
            remove_backup(storage, backup.name)
        for name in litter:
            if name not in litter_again or storage.exists(f"{FOLDER}{name}{SENTINEL_SUFFIX}"):
                log.info(f"Backup {name} has just been finished: it is kept")
                continue
            remove_folder(storage, f"{FOLDER}{name}/")
    log.info(f"Backups were purged: deleted: {len(purged)}, retained: {len(retained)}")
