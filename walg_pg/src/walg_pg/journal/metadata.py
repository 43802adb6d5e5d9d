"""WAL metadata objects, one per file or one per group of 16 (spec/postgres-wal.md 4.4)."""

from __future__ import annotations

import json
import os

from walg_core.backups import gojson, times
from walg_core.errors import ConfigError
from walg_core.io import atomic
from walg_core.observe import log
from walg_core.settings.config import Config
from walg_core.storage.api import Storage

from walg_pg.journal.place import marker_folder, wal_directory
from walg_pg.lsn import is_segment_name

DATE_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def mode(config: Config) -> str:
    """`NOMETADATA`, `INDIVIDUAL` or `BULK`. Raises ConfigError before anything is uploaded."""
    wanted: str = config.get("WALG_UPLOAD_WAL_METADATA")
    return wanted


def describe(name: str, modified_ns: int) -> dict[str, dict[str, str]]:
    """The JSON object of one file."""
    return {name: {"created_time": times.format_utc(modified_ns), "date_fmt": DATE_FORMAT}}


def push(config: Config, wal: Storage, path: str) -> None:
    """Store what the setting asks for about the file at `path`; `wal` is the WAL folder of the storage."""
    wanted = mode(config)
    if wanted == "NOMETADATA":
        return
    name = os.path.basename(path)
    document = describe(name, os.stat(path).st_mtime_ns)
    if wanted == "INDIVIDUAL":
        wal.put_bytes(f"{name}.json", gojson.dumps(document))
        return
    # A name that never ends a group (history, label, or a segment of 512 MiB and more) has nothing to wait for.
    if not is_segment_name(name):
        return
    directory = wal_directory(config, os.path.dirname(path))
    if directory is None:
        raise ConfigError("WALG_UPLOAD_WAL_METADATA=BULK needs PGDATA", hint="set PGDATA to the data directory")
    _push_bulk(wal, marker_folder(directory), name, document)


def _push_bulk(wal: Storage, folder: str, name: str, document: dict[str, dict[str, str]]) -> None:
    atomic.make_dirs(folder, 0o700)
    atomic.write_file(os.path.join(folder, f"{name}.json"), gojson.dumps(document), mode=0o600)
    if not name.endswith("F"):
        return
    group = name[:-1]
    merged: dict[str, object] = {}
    used = []
    for entry in sorted(os.listdir(folder)):
        if not (entry.startswith(group) and entry.endswith(".json") and len(entry) == 29):
            continue
        try:
            with open(os.path.join(folder, entry), encoding="utf-8") as file:
                merged.update(json.load(file))
        except (OSError, ValueError) as error:
            log.warning(f"the metadata file {entry} is unreadable and left out: {error}")
            continue
        used.append(entry)
    wal.put_bytes(f"{group}.json", gojson.dumps(merged))
    for entry in used:
        try:
            os.unlink(os.path.join(folder, entry))
        except OSError as error:
            log.warning(f"the metadata file {entry} could not be removed: {error}")
