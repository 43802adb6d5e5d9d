"""`wal-fetch`: the log from a backup on (spec/fdb-etcd.md 4.2 and 8)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from walg_core.backups import times
from walg_core.errors import ConfigError, WalgError
from walg_core.io.atomic import write_file
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK, read_exactly
from walg_core.pipeline.transfer import read
from walg_core.streams.engine import StreamEngine, choose

from walg_etcd.journal import FOLDER
from walg_etcd.journal.names import WalFile, parse

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage


class Stored(NamedTuple):
    """A WAL file in the archive; `extension` is "" for one without compression."""

    file: WalFile
    key: str
    extension: str
    modified_ns: int


def stored_files(storage: Storage) -> list[Stored]:
    """All WAL files of the archive by sequence; foreign objects are left out."""
    found = []
    for info in storage.list_dir(FOLDER):
        name = info.key[len(FOLDER) :]
        file = parse(name)
        extension = ""
        if not file:
            stem, _, extension = name.rpartition(".")
            file = parse(stem)
        if file:
            found.append(Stored(file, info.key, extension, info.modified_ns))
    return sorted(found)


def needed(stored: list[Stored], start_ns: int) -> list[Stored]:
    """The files from a backup on: those archived after it was begun, and the last one before them.

    A file archived before the backup is complete and older than it; the snapshot may begin inside the one that follows.
    The one before costs little and closes the chain where a file was archived in the moment of the snapshot.
    """
    later = [each for each in stored if each.modified_ns > start_ns]
    if not later:
        return []
    before = [each for each in stored if each.file.sequence == later[0].file.sequence - 1]
    return before[-1:] + later


def fetch(context: Context, engine: StreamEngine, destination: str, since: str) -> int:
    """Store the files in `destination`; returns how many. A file that is there already must be identical.

    Raises NoBackups, ConfigError, StorageError, IntegrityError; a file appears whole or not at all.
    """
    if not os.path.isdir(destination):
        raise ConfigError(f"{destination} is not a directory", hint="make it before wal-fetch")
    _, backup = choose(context, engine, since)
    storage = context.read_storage()
    wanted = needed(stored_files(storage), backup.start_ns)
    for each in wanted:
        _fetch(context, storage, each, os.path.join(destination, each.file.name))
    if not wanted:
        log.info(f"no WAL file was archived after {times.format_local(backup.start_ns)}, when {backup.name} was begun")
    return len(wanted)


def _fetch(context: Context, storage: Storage, stored: Stored, path: str) -> None:
    source = read(context, storage, stored.key, stored.extension)
    try:
        if not os.path.lexists(path):
            write_file(path, source, exclusive=True)
            log.info(f"fetched {stored.file.name}")
            return
        with open(path, "rb") as present:
            while piece := read_exactly(source, CHUNK):
                if present.read(len(piece)) != piece:
                    raise _different(path)
            if present.read(1):
                raise _different(path)
        log.info(f"{stored.file.name} is there already, with the same content")
    finally:
        source.close()


def _different(path: str) -> WalgError:
    return WalgError(
        f"{path} exists and differs from the archived file", hint="fetch into an empty directory; nothing was replaced"
    )
