"""`copy`: backups with their chains and WAL to another storage (spec/postgres-backup.md 15.1 and 16 item 8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from walg_core.backups.catalog import NoBackups
from walg_core.backups.copying import COMMIT, METADATA, Entry, execute
from walg_core.errors import ConfigError, IntegrityError, ObjectNotFound

from walg_pg.catalog.backups import Backup, find_backup, list_backups
from walg_pg.catalog.running import claim_values
from walg_pg.lsn import is_segment_name, parse_segment_name, segment_name
from walg_pg.names import METADATA_NAME, WAL_FOLDER, name_from_key, timeline_of

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.settings.config import Config
    from walg_core.storage.api import ObjectInfo, Storage


class Side:
    """One end of the copy: its own configuration file, in which its storage must be named."""

    def __init__(self, context: Context, path: str, flag: str) -> None:
        """Raises ConfigError, which names `flag`."""
        from walg_core.settings.files import find_file, read_file
        from walg_core.storage.registry import open_config

        try:
            values = read_file(find_file(path, {}), {})
        except (ConfigError, OSError) as error:
            raise ConfigError(f"{flag}: {error}") from error
        self.config: Config = context.config.nested(values, path)
        below = str(self.config.get("WALG_STORAGE_PREFIX") or "") if _own(values, "WALG_STORAGE_PREFIX") else ""
        storage = open_config(context, self.config, storage_prefix=False)
        self.storage: Storage = storage.folder(below) if below.strip("/") else storage
        self.segment_size = int(self.config.get("WALG_PG_WAL_SIZE")) << 20


def _own(values: dict[str, object], name: str) -> bool:
    return any(key.upper() == name for key in values)


def copy(context: Context, source_file: str, target_file: str, name: str = "", *, history: bool = False) -> int:
    """Copy one backup (or `LATEST`), or all; returns how many objects were copied. Raises WalgError.

    Objects that are there with the same size count as copied, so an interrupted copy is simply repeated.
    """
    source, target = Side(context, source_file, "--from"), Side(context, target_file, "--to")
    try:
        entries = plan(source.storage, name, source.segment_size, history=history)
        return execute(source.storage, target.storage, entries, claimed_by(source.storage, entries))
    finally:
        source.storage.close()
        target.storage.close()


def plan(source: Storage, name: str, segment_size: int, *, history: bool) -> list[Entry]:
    """Everything to copy, in phases: data and WAL, metadata, sentinels of ancestors, sentinels. Raises WalgError."""
    backups = [find_backup([source], name)] if name else list_backups([source])
    if not backups:
        raise NoBackups(hint="the storage given by --from has no backup")
    entries: dict[str, Entry] = {}
    wal = list(source.list(WAL_FOLDER))
    for backup in backups:
        for depth, each in enumerate(reversed(chain_of(source, backup))):
            for entry in _objects(source, each, depth):
                entries.setdefault(entry.target, entry)
        for info in wal_of(backup, wal, segment_size, history=history):
            entries.setdefault(info.key, Entry(info.key, info.key, info.size))
    for info in wal:
        if info.key[len(WAL_FOLDER) :].partition(".")[2].startswith("history"):
            entries.setdefault(info.key, Entry(info.key, info.key, info.size))
    return list(entries.values())


def claimed_by(source: Storage, entries: Iterable[Entry]) -> dict[str, dict[str, object]]:
    """What the claims of the copied backups say at the target, by name."""
    out = {}
    for entry in entries:
        if entry.phase == COMMIT:
            backup = find_backup([source], name_from_key(entry.source))
            sentinel = backup.sentinel()
            out[backup.name] = claim_values(sentinel.delta_from, sentinel.start_lsn or 0, sentinel.finish_lsn)
    return out


def chain_of(source: Storage, backup: Backup) -> list[Backup]:
    """The backup and its bases, newest first. Raises IntegrityError for a cycle, NoBackups for a lost base."""
    chain = [backup]
    while (base := chain[-1].sentinel().delta_from) is not None:
        if any(each.name == base for each in chain):
            raise IntegrityError(f"the chain of backup {backup.name} comes back to {base}")
        chain.append(find_backup([source], base))
    return chain


def _objects(source: Storage, backup: Backup, depth: int) -> Iterable[Entry]:
    metadata = backup.prefix + METADATA_NAME
    found = list(source.list(backup.prefix))
    if not any(info.key == metadata for info in found):
        raise IntegrityError(f"backup {backup.name} has no metadata.json: nothing was copied")
    for info in found:
        if info.key == metadata:
            yield Entry(info.key, info.key, info.size, METADATA)
        else:
            yield Entry(info.key, info.key, info.size)
    yield Entry(backup.key, backup.key, source.stat(backup.key).size, COMMIT, depth)


def wal_of(backup: Backup, wal: Sequence[ObjectInfo], segment_size: int, *, history: bool) -> list[ObjectInfo]:
    """The WAL objects that belong to a backup: from its first segment to its last, with `history` to the end.

    Raises IntegrityError when the first or last segment or one between is missing.
    """
    try:
        metadata = backup.metadata()
    except ObjectNotFound:
        raise IntegrityError(f"backup {backup.name} has no metadata.json: nothing was copied") from None
    timeline = timeline_of(backup.name)
    first = segment_name(timeline, (metadata.start_lsn - 1) // segment_size, segment_size)
    last = segment_name(timeline, metadata.finish_lsn // segment_size, segment_size)
    chosen = []
    segments: list[str] = []
    for info in wal:
        stem = info.key[len(WAL_FOLDER) :].partition(".")[0]
        if stem >= first and (history or stem <= last):
            chosen.append(info)
            plain = info.key[len(WAL_FOLDER) :]
            if is_segment_name(stem) and plain.count(".") <= 1 and not plain.endswith((".json", ".history", ".backup")):
                segments.append(stem)
    _check_gaps(backup, sorted(set(segments)), first, last, segment_size, history=history)
    return chosen


def _check_gaps(
    backup: Backup, segments: list[str], first: str, last: str, segment_size: int, *, history: bool
) -> None:
    own = [name for name in segments if name[:8] == first[:8]]
    missing = [name for name in ((first,) if history else (first, last)) if name not in own]
    # A backup that ends on a boundary needs no segment after it.
    numbers = [parse_segment_name(name, segment_size)[1] for name in own]
    missing += [
        segment_name(int(first[:8], 16), left + 1, segment_size)
        for left, right in pairwise(numbers)
        if right != left + 1
    ]
    if missing:
        raise IntegrityError(
            f"WAL segment {missing[0]}, which backup {backup.name} needs, is missing in {WAL_FOLDER}: "
            "nothing was copied",
            hint="`wal-g wal-verify integrity` shows all gaps",
        )
