"""`wal-push`: every complete WAL file that is not archived yet (spec/fdb-etcd.md 4.1 and 8).

Files are told apart by the sequence in their names: what etcd purges does not shift anything. What is archived is
looked up in the storage; the cache file is only written for the original. A file begins with the checksum of all
before it and with its cluster's identity, so its first bytes tell it from one of the same name in another cluster.
"""

from __future__ import annotations

import json
import os
import pwd
from typing import TYPE_CHECKING

from walg_core.errors import EngineError, IntegrityError
from walg_core.io.atomic import write_file
from walg_core.observe import log
from walg_core.pipeline.reader import read_exactly
from walg_core.pipeline.transfer import read, store

from walg_etcd.journal import FOLDER
from walg_etcd.journal.fetch import Stored, stored_files
from walg_etcd.journal.names import WalFile, directory, files

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

_BEGINNING = 4096
CACHE = ".walg_etcd_wals_cache"


def cache_path() -> str:
    """In the home directory of the password database, as the original has it."""
    return os.path.join(pwd.getpwuid(os.getuid()).pw_dir, CACHE)


def push(context: Context) -> int:
    """Archive all files but the newest, which etcd still writes; returns how many were stored.

    Raises ConfigError, StorageError, EngineError when a file changes or vanishes meanwhile.
    """
    path = directory(context.config)
    found = files(path)
    storage = context.write_storage()
    held = {stored.file.name: stored for stored in stored_files(storage)}
    complete = found[:-1]
    warn_of_gap(complete, held)
    count = 0
    for file in complete:
        stored = held.get(file.name)
        if stored and _is_same(context, storage, path, stored):
            continue
        if stored:
            log.warning(f"the archive has another file of the name {file.name}, of an earlier cluster: it is replaced")
        _store(context, storage, path, file)
        count += 1
    if complete:
        _remember(complete[-1].name)
    log.info(f"{count} WAL files archived, {len(complete) - count} were archived before")
    return count


def _is_same(context: Context, storage: Storage, path: str, stored: Stored) -> bool:
    """Whether the archived file begins like the one on disk; one that cannot be read back does not."""
    try:
        source = read(context, storage, stored.key, stored.extension)
        try:
            archived = read_exactly(source, _BEGINNING)
        finally:
            source.close()
    except IntegrityError as error:
        log.warning(f"{stored.key} is damaged ({error})")
        return False
    with open(os.path.join(path, stored.file.name), "rb") as file:
        return file.read(_BEGINNING) == archived


def warn_of_gap(complete: list[WalFile], held: dict[str, Stored]) -> None:
    """Say which sequences lie between the archive and the directory and can never be archived."""
    if not complete or not held:
        return
    last = max(stored.file.sequence for stored in held.values())
    first = complete[0].sequence
    if first > last + 1:
        log.warning(
            f"WAL files {last + 1:016x} to {first - 1:016x} were purged by etcd before they were archived; take a new"
            " backup, and push more often or raise etcd's --max-wals"
        )


def _store(context: Context, storage: Storage, path: str, file: WalFile) -> None:
    whole = os.path.join(path, file.name)
    try:
        source = open(whole, "rb", buffering=0)  # noqa: SIM115 - `store` closes it
        size = os.fstat(source.fileno()).st_size
    except OSError as error:
        raise EngineError(
            f"{whole} cannot be read: {error.strerror}", hint="etcd may have purged it just now; run wal-push again"
        ) from error
    stored = store(context, storage, FOLDER + file.name, source)
    if stored.plain_size != size:
        storage.delete([stored.key])
        raise EngineError(f"{whole} changed its size while it was read; it is not archived")
    log.info(f"FILE PATH: {stored.key.removeprefix(FOLDER)}")


def _remember(name: str) -> None:
    """For the original, should it take over on this host."""
    write_file(cache_path(), json.dumps({"LastArchivedWal": name}, separators=(",", ":")).encode(), mode=0o644)
