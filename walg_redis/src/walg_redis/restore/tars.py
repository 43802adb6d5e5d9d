"""Unpacking `tar_partitions/` into a directory, safely and durably."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from walg_core.errors import IntegrityError
from walg_core.io.destination import Destination, components, write_all
from walg_core.parallel import run_all
from walg_core.pipeline.transfer import read
from walg_core.pipeline.untar import DIRECTORY, FILE, Archive

from walg_redis.backup.tars import PARTITIONS

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage


def unpack(context: Context, storage: Storage, prefix: str, directory: str, *, mode: int = 0o755) -> int:
    """All tars below `prefix` into `directory`; returns the bytes of their files. Nothing can leave the directory.

    Raises IntegrityError (no tars, a damaged one, a name that leads out), StorageError, OSError.
    """
    keys = [info.key for info in storage.list_dir(prefix + PARTITIONS)]
    if not keys:
        raise IntegrityError(f"the backup has no data below {prefix}{PARTITIONS}")
    sizes = [0] * len(keys)
    fsync = not context.config.get("WALG_TAR_DISABLE_FSYNC")
    with Destination(directory, mode=mode, fsync=fsync) as root:
        tasks = [_unpacking(context, storage, key, root, sizes, number) for number, key in enumerate(keys)]
        run_all(tasks, context.config.get("WALG_DOWNLOAD_CONCURRENCY"))
        root.finish()
    return sum(sizes)


def _unpacking(
    context: Context, storage: Storage, key: str, root: Destination, sizes: list[int], number: int
) -> Callable[[], None]:
    def run() -> None:
        name = key.rsplit("/", 1)[-1]
        _, _, extension = name.partition(".tar")
        source = read(context, storage, key, extension.removeprefix("."))
        try:
            archive = Archive(source, name)
            for member in archive:
                parts = components(member.name)
                if member.kind == DIRECTORY:
                    root.make_dir(parts, parents=0o755)
                elif member.kind == FILE:
                    sizes[number] += _write(archive, root, parts, member.mode)
                else:
                    raise IntegrityError(f"{name} has a member that is neither a file nor a directory: {member.name!r}")
        finally:
            source.close()

    return run


def _write(archive: Archive, root: Destination, parts: tuple[bytes, ...], mode: int) -> int:
    fd = root.create(parts, mode or 0o644, parents=0o755)
    count = 0
    try:
        while piece := archive.read():
            write_all(fd, piece, root.path)
            count += len(piece)
    finally:
        root.close_file(fd)
    return count
