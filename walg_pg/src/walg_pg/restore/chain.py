"""The chain of backups that a restore needs, and the files it takes from each (spec/postgres-backup.md 11.2, 11.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from walg_core.backups.catalog import BackupNotFound
from walg_core.errors import IntegrityError, ObjectNotFound
from walg_core.observe import log

from walg_pg.catalog.backups import Backup, find_backup
from walg_pg.sentinel import FilesMetadata, Sentinel

if TYPE_CHECKING:
    from collections.abc import Callable

    from walg_core.storage.api import ObjectInfo, Storage

PG_CONTROL = "global/pg_control"
UTILITY = frozenset(("global/pg_control", "backup_label", "tablespace_map"))
"""Members that belong to every backup though `Files` does not list them; names without the leading slash."""

_CONTROL_PART = re.compile(r"^.*?pg_control\.tar(\..+$|$)")
_LABEL_PART = re.compile(r"^.*?backup_label\.tar(\..+$|$)")
_WALE_NAME = re.compile(r"^base_[0-9A-F]{24}_[0-9A-F]{8}$")


def bare(name: str) -> str:
    """A member's name without the leading slash, `./` and trailing slash that the dialects differ in."""
    return name.lstrip("/").removeprefix("./").rstrip("/")


@dataclass(slots=True)
class Link:
    """One backup of the chain. `files` None: no file list. `wanted` None: every member.

    `wanted` has the stored names of regular files and other entries to take from this backup.
    """

    backup: Backup
    sentinel: Sentinel
    files: FilesMetadata | None
    parts: list[ObjectInfo]
    newest: bool
    wanted: set[str] | None = None

    @property
    def name(self) -> str:
        return self.backup.name

    @property
    def has_special_parts(self) -> bool:
        """Backups with WAL-E's names have no `pg_control.tar`: their data tars hold everything."""
        return self.sentinel.is_delta or not _WALE_NAME.match(self.name)

    def data_parts(self) -> list[ObjectInfo]:
        return [part for part in self.parts if not is_special(part.key)]

    def control_part(self) -> ObjectInfo | None:
        return next((part for part in self.parts if _CONTROL_PART.match(_base(part.key))), None)

    def label_part(self) -> ObjectInfo | None:
        return next((part for part in self.parts if _LABEL_PART.match(_base(part.key))), None)


def _base(key: str) -> str:
    return key.rpartition("/")[2]


def is_special(key: str) -> bool:
    """Whether the object is `pg_control.tar…` or `backup_label.tar…`."""
    return bool(_CONTROL_PART.match(_base(key)) or _LABEL_PART.match(_base(key)))


def load_chain(storages: Sequence[Storage], backup: Backup) -> list[Link]:
    """The backup and its bases, newest first, each with its file list and parts.

    Raises IntegrityError for a cycle, a missing base, a missing or incomplete file list where one is needed.
    """
    chain: list[Link] = []
    seen: set[str] = set()
    current = backup
    while True:
        if current.name in seen:
            raise IntegrityError(
                f"the chain of backup {backup.name} comes back to {current.name}: it has no full backup"
            )
        seen.add(current.name)
        link = _load_link(current, newest=not chain)
        chain.append(link)
        base = link.sentinel.delta_from
        if base is None:
            return chain
        here = [link.backup.storage, *(storage for storage in storages if storage is not link.backup.storage)]
        try:
            current = find_backup(here, base, current.folder)
        except BackupNotFound as error:
            raise IntegrityError(
                f"backup {link.name} is a delta of {base}, which is not there: it cannot be restored",
                hint="restore an older backup, or bring the base back from a copy of the archive",
            ) from error


def load_single(backup: Backup) -> Link:
    """A backup by itself (a catchup backup, which has no base to load); every member is wanted."""
    return _load_link(backup, newest=True)


def _load_link(backup: Backup, *, newest: bool) -> Link:
    sentinel = backup.sentinel()
    link = Link(backup, sentinel, _file_list(backup, sentinel), backup.parts(), newest)
    if not link.data_parts():
        raise IntegrityError(
            f"backup {backup.name} has no data under {backup.prefix}tar_partitions/",
            hint="it was deleted in part or its upload never finished: choose another backup",
        )
    if link.has_special_parts and link.control_part() is None:
        raise IntegrityError(
            f"Expect pg_control archive, but not found: backup {backup.name} has no pg_control.tar, it cannot start"
        )
    if link.files:
        _check_parts(link)
    return link


def _file_list(backup: Backup, sentinel: Sentinel) -> FilesMetadata | None:
    if sentinel.embedded is not None:
        return sentinel.embedded
    if sentinel.files_metadata_disabled:
        if sentinel.is_delta:
            raise IntegrityError(f"backup {backup.name} is a delta without a file list: it cannot be restored")
        return None
    try:
        found = backup.files_metadata()
    except ObjectNotFound:
        if sentinel.is_delta or sentinel.version >= 2:
            raise IntegrityError(
                f"backup {backup.name} has lost its files_metadata.json: what belongs to it cannot be told",
                hint="bring the object back from a copy of the archive, or choose another backup",
            ) from None
        log.warning(f"backup {backup.name} has no file list: everything in its archives is restored")
        return None
    if not found.files:
        if sentinel.is_delta:
            raise IntegrityError(f"backup {backup.name} is a delta with an empty file list: it cannot be restored")
        return None
    return found


def _check_parts(link: Link) -> None:
    """Every tar that the file list speaks of must be there."""
    assert link.files is not None
    there = {_base(part.key) for part in link.parts}
    missing = sorted(name for name in link.files.tar_sets if name not in there)
    if missing:
        raise IntegrityError(
            f"backup {link.name} is incomplete: {', '.join(missing[:5])} of {len(link.files.tar_sets)} parts "
            f"{'is' if len(missing) == 1 else 'are'} missing under {link.backup.prefix}tar_partitions/",
            hint="bring the objects back from a copy of the archive, or choose another backup",
        )


def choose_files(chain: Sequence[Link], selected: Callable[[str], bool] | None = None) -> None:
    """Set each link's `wanted`: the newest's files (those `selected`), and of a base what later ones lack.

    Raises IntegrityError when a delta takes a file over from a base that has no such file.
    """
    newest = chain[0]
    if newest.files is None:
        newest.wanted = None
    else:
        names = newest.files.files
        newest.wanted = {name for name in names if selected is None or selected(name)}
        newest.wanted.update(name for name in UTILITY if selected is None or selected(name))
    for link, base in pairwise(chain):
        assert link.files is not None
        entries = link.files.files
        wanted: set[str] = set()
        for name in link.wanted or ():
            entry = entries.get(name)
            if entry is None and bare(name) not in UTILITY:
                raise IntegrityError(f"backup {link.name} does not list {name}, which a later delta builds on")
            if entry is not None and (entry.skipped or entry.incremented):
                wanted.add(name)
        if base.files is not None:
            _match_base(link, base, wanted)
        base.wanted = wanted


def _match_base(link: Link, base: Link, wanted: set[str]) -> None:
    assert base.files is not None
    missing = [name for name in wanted if name not in base.files.files]
    if missing:
        raise IntegrityError(
            f"backup {link.name} builds on {missing[0]} of {base.name}, which has no such file "
            f"({len(missing)} files in all): the chain cannot be restored"
        )
