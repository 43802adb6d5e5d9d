"""A backup with everything that it builds on (spec/mysql.md 9 and 14 #2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.backups import sentinels
from walg_core.backups.catalog import BackupNotFound, find
from walg_core.backups.sentinels import Backup
from walg_core.errors import IntegrityError

from walg_mysql.sentinel import FORM, Sentinel

if TYPE_CHECKING:
    from walg_core.storage.api import Storage


@dataclass(frozen=True, slots=True)
class Link:
    """One backup of a chain."""

    backup: Backup
    sentinel: Sentinel

    @property
    def name(self) -> str:
        return self.backup.name

    @classmethod
    def of(cls, backup: Backup) -> Link:
        return cls(backup, Sentinel.of(backup.document))


def chain(storage: Storage, requested: Backup, *, fitting: bool = True) -> list[Link]:
    """From the full backup to `requested`. Raises IntegrityError when a parent is missing.

    `fitting`: parents must also end where their increments begin, and a wrongly named one is corrected. Without it the
    chain is what the sentinels say.
    """
    links = [Link.of(requested)]
    while links[-1].sentinel.incremental:
        parent = _parent(storage, links[-1], fitting)
        if any(parent.name == each.name for each in links):
            raise IntegrityError(f"the increments of {requested.name} build on each other in a circle")
        links.append(parent)
    return links[::-1]


def _parent(storage: Storage, child: Link, fitting: bool) -> Link:
    """By name; the full backup where the original named another one than it used."""
    wanted = child.sentinel.delta_lsn
    if not child.sentinel.delta_from:
        raise IntegrityError(
            f"backup {child.name} is an increment but does not tell what it builds on",
            hint="its sentinel lacks DeltaFrom; use another backup",
        )
    parent = _load(storage, child.sentinel.delta_from, child.name)
    if not fitting or wanted is None or parent.sentinel.lsn in (None, wanted):
        return parent
    full = child.sentinel.delta_full_name
    if full and full != parent.name:
        root = _load(storage, full, child.name)
        if root.sentinel.lsn == wanted:
            return root
    raise IntegrityError(
        f"increment {child.name} begins at LSN {wanted}, but {parent.name} ends at {parent.sentinel.lsn}",
        hint="these backups do not belong together; use another one",
    )


def _load(storage: Storage, name: str, child: str) -> Link:
    try:
        entry = find(storage, name)
    except BackupNotFound as error:
        raise IntegrityError(
            f"backup {name}, which {child} builds on, does not exist in storage '{storage.name}'",
            hint="the increment cannot be restored without it; use another backup",
        ) from error
    return Link.of(sentinels.load(storage, entry, FORM))
