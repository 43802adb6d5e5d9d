"""The payload of a tiered-storage part: a frozen tree of files, pinned and packed (spec/redis.md 3.5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from walg_core.backups import times
from walg_core.errors import EngineError
from walg_core.io.atomic import make_dirs

from walg_redis.backup.pins import held_new, pin
from walg_redis.backup.tars import pack

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

_SKIPPED = (".tmp", ".lock", ".pid", ".part")


class Tiered(NamedTuple):
    """A stored tree: when it was begun (nanoseconds), bytes before and after, files."""

    start_ns: int
    plain: int
    stored: int
    files: int


def store_tree(context: Context, storage: Storage, folder: str, source: str) -> Tiered:
    start = times.now()
    base = context.config.get("WALG_REDIS_TS_PIN_FOLDER")
    make_dirs(base, 0o700)
    if os.stat(base).st_dev != os.stat(source).st_dev:
        raise EngineError(
            f"ts source {source} and pin folder {base} are on different filesystems; configure WALG_REDIS_TS_PIN_FOLDER"
            " on the source filesystem"
        )
    with held_new(base, "ts-") as folder_of_links:
        pinned = pin(_tree(source), folder_of_links, "WALG_REDIS_TS_PIN_FOLDER")
        if not pinned:
            raise EngineError(f"--ts-backup {source} has only files that are skipped (.tmp, .lock, .pid, .part)")
        plain, stored = pack(context, storage, folder, pinned, lambda: None)
    return Tiered(start, plain, stored, len(pinned))


def _tree(source: str) -> Iterator[tuple[str, str]]:
    """Regular files below `source` with their relative names, in a stable order."""
    for directory, directories, names in os.walk(source):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            if name.endswith(_SKIPPED) or os.path.islink(path) or not os.path.isfile(path):
                continue
            yield path, os.path.relpath(path, source)
