"""The last steps of every backup: count its tars, then store metadata, file list and, last, the sentinel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from walg_core.backups import claims
from walg_core.errors import EngineError, StorageError
from walg_core.observe import log
from walg_core.pipeline.reader import IterReader
from walg_core.storage.api import Storage

from walg_pg import names
from walg_pg.backup.base import Base
from walg_pg.catalog.running import claim_values
from walg_pg.sentinel import Sentinel, metadata_of, write_metadata, write_sentinel


@contextmanager
def claim(
    storage: Storage, name: str, base: Base | None, start_lsn: int, folder: str = names.BASEBACKUPS
) -> Iterator[None]:
    """Deletions leave the backup's parts, its base and its WAL alone inside. Raises WalgError, StorageError."""
    built_on = base.name if base else ""
    with claims.of_backup(storage, name, claim_values(built_on, start_lsn), folder):
        if folder == names.BASEBACKUPS:
            claims.check_not_doomed(storage, {name, built_on})
        check_base(storage, base)
        yield


def check_base(storage: Storage, base: Base | None) -> None:
    """Raises EngineError when the base is there no more."""
    if base and base.name and not storage.exists(names.sentinel_key(base.name)):
        raise EngineError(
            f"the base {base.name} was deleted while this delta was being made", hint="run backup-push again"
        )


def prepare_place(storage: Storage, name: str, folder: str = names.BASEBACKUPS) -> None:
    """Make sure that the name is free, and remove what an interrupted backup of that name left.

    A restore reads every object below `tar_partitions/`, so leftovers would become part of the new backup. Raises
    EngineError when a backup of that name exists: nothing was written to the WAL since it was made.
    """
    if storage.exists(names.sentinel_key(name, folder)):
        raise EngineError(
            f"backup {name} exists already: the WAL has not advanced to another segment since",
            hint="wait until the server has written more WAL, or use the existing backup",
        )
    leftovers = [info.key for info in storage.list(f"{folder}{name}/")]
    if leftovers:
        log.warning(f"removing {len(leftovers)} objects that an interrupted backup left under the name {name}")
        storage.delete(leftovers)


def check_parts(storage: Storage, name: str, expected: dict[str, int], folder: str = names.BASEBACKUPS) -> None:
    """Raises StorageError unless exactly the `expected` tars (key → size in bytes) are in the storage."""
    found = {info.key: info.size for info in storage.list(names.parts_prefix(name, folder))}
    if not storage.capabilities.consistent_listing:
        found = {key: storage.stat(key).size for key in expected} | found
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) == found.get(key):
            continue
        raise StorageError(
            f"'{key}': {_size(expected.get(key))} was stored but {_size(found.get(key))} is there",
            key=key,
            hint="something else writes or deletes there; the backup was not finished, run backup-push again",
        )


def _size(size: int | None) -> str:
    return "nothing" if size is None else f"an object of {size} bytes"


def publish(
    storage: Storage, name: str, sentinel: Sentinel, files: Iterable[bytes] | None, folder: str = names.BASEBACKUPS
) -> None:
    """Store `metadata.json`, the file list in pieces (None: no list), and last the sentinel: then the backup exists."""
    storage.put_bytes(names.metadata_key(name, folder), write_metadata(metadata_of(sentinel)))
    if files is not None:
        key = names.files_metadata_key(name, folder)
        stored = storage.put(key, IterReader(files))
        if storage.stat(key).size != stored:
            raise StorageError(f"'{key}' does not have the {stored} bytes that were sent", key=key)
    storage.put_bytes(names.sentinel_key(name, folder), write_sentinel(sentinel))
