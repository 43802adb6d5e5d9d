"""Copying backups between storages, bytes unchanged: resumable, never a sentinel before its data.

Facts: spec/stream-backups.md 13. An engine may add entries of its own (logs, aggregates) to the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from walg_core.backups import claims
from walg_core.backups.catalog import FOLDER, BackupObject, NoBackups, find, list_backups
from walg_core.errors import WalgError
from walg_core.observe import log
from walg_core.parallel import run_all
from walg_core.storage.api import Storage

if TYPE_CHECKING:
    from walg_core.context import Context

PAYLOAD, METADATA, COMMIT, RECOVERY, AGGREGATE, FINAL = range(6)
"""Phases, in order; one completes before the next begins."""

_METADATA_NAMES = ("metadata.json", "stream_metadata.json")
_PARALLEL = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One object to copy: from `source`, or inline `body`. `size` in bytes. A `mutable` target is overwritten."""

    source: str
    target: str
    size: int
    phase: int = PAYLOAD
    sequence: int = 0
    mutable: bool = False
    body: bytes | None = None


def open_side(context: Context, path: str, flag: str) -> Storage:
    """The storage of one configuration file: no environment, no `WALG_STORAGE_PREFIX`. The caller closes it.

    Raises ConfigError naming `flag`.
    """
    from walg_core.errors import ConfigError
    from walg_core.settings.config import Config
    from walg_core.settings.files import find_file, read_file
    from walg_core.storage.registry import open_config

    try:
        values = read_file(find_file(path, {}), {})
    except (ConfigError, OSError) as error:
        raise ConfigError(f"{flag}: {error}") from error
    config = Config(context.config.declared.values(), file=values, file_name=path)
    return open_config(context, config, storage_prefix=False)


def choose(source: Storage, name: str, folder: str = FOLDER) -> list[BackupObject]:
    """The named backup, `LATEST`, or for "" all in name order. Raises NoBackups."""
    if name:
        return [find(source, name, folder)]
    found = sorted(list_backups(source, folder), key=lambda backup: backup.name)
    if not found:
        raise NoBackups(hint="the storage given by --from has no backup")
    return found


def entries(
    source: Storage,
    backups: Sequence[BackupObject],
    *,
    depth_of: Callable[[BackupObject], int] = lambda _: 0,
    folder: str = FOLDER,
) -> list[Entry]:
    """The objects of these backups: data, then metadata, then sentinels, a full backup's before its increments'."""
    out = []
    for backup in backups:
        found = list(source.list(f"{folder}{backup.name}/"))
        if not found:
            log.warning(f"backup {backup.name} has no objects besides its sentinel")
        for info in found:
            last = info.key.rpartition("/")[2]
            out.append(Entry(info.key, info.key, info.size, METADATA if last in _METADATA_NAMES else PAYLOAD))
        size = source.stat(backup.key).size
        out.append(Entry(backup.key, backup.key, size, COMMIT, depth_of(backup)))
    return out


def execute(
    source: Storage,
    destination: Storage,
    plan: Iterable[Entry],
    claimed: Mapping[str, Mapping[str, object]] | None = None,
) -> int:
    """Copy what is not there yet, up to 8 objects at once; returns how many. Raises WalgError, StorageError.

    Objects of equal size are taken as copied; another size is an error, raised before anything is written. `claimed`:
    the backups that are copied, with what a claim of each says; a deletion at the destination leaves them alone.
    """
    with ExitStack() as held:
        for name, values in (claimed or {}).items():
            held.enter_context(claims.of_backup(destination, name, values))
        if claimed:
            claims.check_no_deletion(destination)
        return _execute(source, destination, plan)


def _execute(source: Storage, destination: Storage, plan: Iterable[Entry]) -> int:
    wanted = sorted(plan, key=lambda entry: (entry.phase, entry.sequence))
    targets: dict[str, Entry] = {}
    for entry in wanted:
        other = targets.setdefault(entry.target, entry)
        if other is not entry:
            raise WalgError(f"two objects would be copied to '{entry.target}': '{other.source}' and '{entry.source}'")
    present = {info.key: info.size for info in destination.list()} if wanted else {}
    missing = [entry for entry in wanted if not _is_there(entry, present)]
    for _, group in groupby(missing, key=lambda entry: (entry.phase, entry.sequence)):
        run_all([_copier(source, destination, entry) for entry in group], _PARALLEL)
    log.info(f"{len(missing)} objects copied, {len(wanted) - len(missing)} were there already")
    return len(missing)


def _is_there(entry: Entry, present: dict[str, int]) -> bool:
    size = present.get(entry.target)
    if size is None or entry.mutable:
        return False
    if size != entry.size:
        raise WalgError(
            f'destination object "{entry.target}" conflicts with source: source size {entry.size},'
            f" destination size {size}",
            hint="delete the object at the destination, or copy to another place",
        )
    return True


def _copier(source: Storage, destination: Storage, entry: Entry) -> Callable[[], None]:
    def copy() -> None:
        if entry.body is not None:
            destination.put_bytes(entry.target, entry.body)
        else:
            reader = source.open(entry.source)
            try:
                destination.put(entry.target, reader, entry.size)
            finally:
                reader.close()
        log.info(f"copied {entry.target}")

    return copy


def copy_backups(
    context: Context,
    source_file: str,
    destination_file: str,
    name: str,
    *,
    depths_of: Callable[[Storage], Callable[[BackupObject], int]] = lambda _: lambda _: 0,
) -> int:
    """The `copy` command: `name` is a backup, `LATEST`, or "" for all. Returns the number of objects copied.

    `depths_of` gives for the source the depth of each backup in its chain of increments.
    """
    source = open_side(context, source_file, "--from")
    try:
        destination = open_side(context, destination_file, "--to")
        try:
            backups = choose(source, name)
            plan = entries(source, backups, depth_of=depths_of(source))
            return execute(source, destination, plan, {backup.name: {} for backup in backups})
        finally:
            destination.close()
    finally:
        source.close()
