"""Storing one backup from a stream: data, stream metadata, sentinel (spec/stream-backups.md 2.1 and 4).

Part of cold commands: what only a split stream or a plugin's hook needs is imported where that is there.
"""

import time
from collections import namedtuple

from walg_core import hooks
from walg_core.backups import claims, gojson, times
from walg_core.backups.names import FOLDER, sentinel_key
from walg_core.errors import StorageError
from walg_core.observe import log
from walg_core.observe.progress import TrackedReader, track
from walg_core.pipeline.meters import CountingReader
from walg_core.pipeline.reader import Reader
from walg_core.pipeline.transfer import store
from walg_core.storage.layers.limit import LimitedReader, disk_bucket
from walg_core.streams.channel import Ahead, Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NamedTuple

    from walg_core.context import Context
    from walg_core.storage.api import Storage
    from walg_core.streams.splitter import Split

    class Pushed(NamedTuple):
        """A stream that is stored. Times in nanoseconds; sizes in bytes before and after compression and encryption."""

        name: str
        start_ns: int
        finish_ns: int
        plain_size: int
        stored_size: int
else:
    Pushed = namedtuple("Pushed", "name start_ns finish_ns plain_size stored_size", module=__name__)

SPLIT_TYPE = "SPLIT_MERGE_STREAM_BACKUP"
SINGLE_TYPE = "STREAM_BACKUP"
_AHEAD = 8 << 20
METADATA = "stream_metadata.json"


def new_name(storage: "Storage", prefix: str = "stream_", folder: str = FOLDER) -> str:
    """`prefix` and the current second (UTC), a second in which no backup was begun in this storage yet."""
    while True:
        name = prefix + times.backup_stamp(time.time_ns())
        taken = storage.exists(sentinel_key(name, folder)) or any(True for _ in storage.list(f"{folder}{name}/"))
        if not taken:
            return name
        time.sleep(1.0 - time.time() % 1.0)


def backup(
    context: "Context",
    open_source: "Callable[[], Reader]",
    sentinel: "Callable[[Pushed], dict[str, Any]]",
    *,
    prefix: str = "stream_",
    split: "Split | None" = None,
    target: str = "",
) -> Pushed:
    """Make one backup of what `open_source` gives and store its sentinel last; see `backup_of`."""

    def body(storage: "Storage", folder: str) -> tuple[int, int]:
        return store_stream(context, storage, folder, open_source(), split)

    return backup_of(context, body, sentinel, prefix=prefix, target=target)


def backup_of(
    context: "Context",
    body: "Callable[[Storage, str], tuple[int, int]]",
    sentinel: "Callable[[Pushed], dict[str, Any]]",
    *,
    prefix: str = "stream_",
    target: str = "",
    base: str = "",
) -> Pushed:
    """Make one backup: `body` stores everything below the folder it gets and returns the plain and the stored size.

    `base` is the backup that this one is an increment on: a deletion leaves it alone meanwhile.

    On any failure there is no sentinel, and what was stored is removed again as far as the storage allows. Raises what
    the source raises (CommandFailed), StorageError, ConfigError.
    """
    storage = context.write_storage(target)
    _tell(context, "walg_backup_starting", "", storage.name)
    start = times.now()
    name = new_name(storage, prefix)
    with claims.of_backup(storage, name, {"base": base} if base else {}):
        try:
            if base:
                claims.check_not_doomed(storage, [base])
                _check_base(storage, base)
            plain, stored = body(storage, f"{FOLDER}{name}/")
            pushed = Pushed(name, start, times.now(), plain, stored)
            if base:
                _check_base(storage, base)
            storage.put_bytes(sentinel_key(name), gojson.dumps(sentinel(pushed)))
        except BaseException:
            remove_failed(storage, f"{FOLDER}{name}/")
            raise
    _tell(context, "walg_backup_finished", name, storage.name)
    return pushed


def _check_base(storage: "Storage", base: str) -> None:
    if not storage.exists(sentinel_key(base)):
        raise StorageError(
            f"backup {base}, on which this one builds, was deleted meanwhile", hint="run backup-push again"
        )


def _tell(context: "Context", hook: str, name: str, storage: str) -> None:
    """An exception at the start goes to the caller and prevents the backup, one at the end is only reported."""
    if not context.catalog.hooks.get(hook):
        return
    from walg_core.events import BackupEvent

    tell = hooks.notify if name else hooks.call
    tell(context.catalog, hook, event=BackupEvent(context.engine, name, storage))


def remove_failed(storage: "Storage", prefix: str) -> None:
    """Delete what a failed push stored; a storage that forbids it only gets a warning."""
    try:
        storage.delete([info.key for info in storage.list(prefix)])
    except StorageError as error:
        log.warning(f"what the failed backup stored below {prefix} stays as garbage: {error}")


def store_stream(
    context: "Context", storage: "Storage", prefix: str, source: Reader, split: "Split | None" = None
) -> tuple[int, int]:
    """Store a stream below `prefix` as one object or split; returns the plain and the stored size. Closes `source`."""
    bucket = disk_bucket(context)
    with track(None, "backup") as tracker:
        # Dealing out a split stream runs beside the uploads anyway.
        ahead = Ahead(source, _AHEAD) if split is None else source
        counted = CountingReader(LimitedReader(ahead, bucket) if bucket else ahead)
        tracked = TrackedReader(counted, tracker)
        if split is None:
            stored = store(context, storage, f"{prefix}stream", tracked)
            log.info(f"FILE PATH: {_shown(stored.key)}")
            return stored.plain_size, stored.stored_size
        try:
            size = _store_split(context, storage, prefix, tracked, split, getattr(source, "cancel", None))
        finally:
            tracked.close()
        return counted.count, size


def _shown(key: str) -> str:
    return key.removeprefix(FOLDER)


def _store_split(
    context: "Context",
    storage: "Storage",
    prefix: str,
    source: Reader,
    split: "Split",
    cancel: "Callable[[], None] | None",
) -> int:
    from walg_core.parallel import run_all
    from walg_core.streams.splitter import deal

    channels = [Channel() for _ in range(split.partitions)]
    sizes = [0] * split.partitions

    def broken() -> None:
        for channel in channels:
            channel.fail(StorageError("another part of this backup failed"))
        if cancel:
            cancel()

    def dealing() -> None:
        deal(source, split, channels)

    def uploading(partition: int) -> "Callable[[], None]":
        def run() -> None:
            sizes[partition] = _store_partition(context, storage, prefix, channels[partition], partition, split)

        return run

    tasks = [dealing, *map(uploading, range(split.partitions))]
    run_all(tasks, len(tasks), broken)
    extension = context.compressor().extension
    metadata: dict[str, Any] = {"type": SPLIT_TYPE, "partitions": split.partitions, "block_size": split.block_size}
    if extension:
        metadata["compression"] = extension
    storage.put_bytes(prefix + METADATA, gojson.dumps(metadata))
    return sum(sizes)


def _store_partition(
    context: "Context", storage: "Storage", prefix: str, channel: Channel, partition: int, split: "Split"
) -> int:
    """One object, or with a maximum file size as many as there is data for; returns the stored bytes."""
    try:
        name = f"{prefix}part_{partition:04d}"
        if not split.max_file_size:
            stored = store(context, storage, name, channel)
            log.info(f"FILE PATH: {_shown(stored.key)}")
            return stored.stored_size
        total = 0
        number = 0
        while True:
            # An empty stream still has one object: a backup without any is one that lost them all.
            if channel.at_end() and (partition or number):
                return total
            stored = store(context, storage, f"{name}_{number:04d}", _Limited(channel, split.max_file_size))
            log.info(f"FILE PATH: {_shown(stored.key)}")
            total += stored.stored_size
            number += 1
    finally:
        channel.close()


class _Limited:
    """At most `left` bytes of a source that goes on afterwards; closing leaves the source open."""

    def __init__(self, source: Reader, left: int) -> None:
        self._source = source
        self._left = left

    def read(self, size: int = -1, /) -> bytes:
        piece = self._source.read(self._left if size < 0 else min(size, self._left)) if self._left else b""
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._left = 0
