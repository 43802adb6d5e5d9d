"""Packing pinned files into `tar_partitions/part_NNN.tar` (spec/redis.md 3.4 step 6), and listing what was packed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from walg_core.backups.catalog import FOLDER
from walg_core.errors import EngineError
from walg_core.observe import log
from walg_core.parallel import run_all
from walg_core.pipeline import tar
from walg_core.pipeline.reader import CHUNK, IterReader
from walg_core.pipeline.transfer import store
from walg_core.storage.layers.limit import disk_bucket

from walg_redis.backup.pins import Pinned

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

PARTITIONS = "tar_partitions/"


def pack(
    context: Context, storage: Storage, prefix: str, files: Sequence[Pinned], watch: Callable[[], None]
) -> tuple[int, int]:
    """Store the files below `prefix` in numbered tars; returns the bytes of the files and the bytes stored.

    `watch` is called for every piece read and raises to stop everything. Raises EngineError, StorageError.
    """
    groups = group(files, context.config.get("WALG_TAR_SIZE_THRESHOLD"))
    sizes = [0] * len(groups)

    def packing(number: int) -> Callable[[], None]:
        def run() -> None:
            name = f"{prefix}{PARTITIONS}part_{number + 1:03d}.tar"
            stored = store(context, storage, name, IterReader(_archive(context, groups[number], watch)))
            sizes[number] = stored.stored_size
            log.info(f"FILE PATH: {stored.key.removeprefix(FOLDER)}")

        return run

    run_all(map(packing, range(len(groups))), context.config.get("WALG_UPLOAD_DISK_CONCURRENCY"))
    return sum(each.size for each in files), sum(sizes)


def group(files: Sequence[Pinned], threshold: int) -> list[list[Pinned]]:
    """Files in order; a tar takes no more once it is larger than `threshold` bytes."""
    groups: list[list[Pinned]] = []
    held = 0
    for file in files:
        if not groups or held > threshold:
            groups.append([])
            held = 0
        groups[-1].append(file)
        held += file.size
    return groups


def _archive(context: Context, files: Sequence[Pinned], watch: Callable[[], None]) -> Iterator[bytes]:
    bucket = disk_bucket(context)
    for file in files:
        name = file.member.encode("utf-8", "surrogateescape")
        yield tar.header(tar.Entry(name, size=file.size, mode=file.mode, mtime=int(time.time())))
        left = file.size
        with open(file.path, "rb", buffering=0) as source:
            while left:
                watch()
                piece = source.read(min(left, CHUNK))
                if not piece:
                    raise EngineError(f"{file.path} has become {left} bytes shorter while it was packed")
                if bucket:
                    bucket.take(len(piece))
                left -= len(piece)
                yield piece
        yield tar.padding(file.size)
    yield tar.TRAILER
