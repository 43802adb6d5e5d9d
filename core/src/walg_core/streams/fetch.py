"""Reading one backup's stream, single or split, with everything checked that can be (spec/stream-backups.md 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from walg_core.backups.catalog import FOLDER
from walg_core.backups.sentinels import Document
from walg_core.errors import IntegrityError, ObjectNotFound
from walg_core.pipeline.reader import CHUNK, IterReader, Reader
from walg_core.pipeline.transfer import open_by_name, read
from walg_core.storage.layers.limit import LimitedReader, disk_bucket
from walg_core.streams.channel import Ahead
from walg_core.streams.push import METADATA, SINGLE_TYPE, SPLIT_TYPE
from walg_core.streams.splitter import join

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

_PART = re.compile(r"part_(\d{4,})(?:_(\d{4,}))?")
_PREFETCHING = 64
"""Up to so many partitions are decoded ahead, each in a thread of its own."""


def open_stream(context: Context, storage: Storage, name: str, *, plain_size: int = 0, folder: str = FOLDER) -> Reader:
    """The plain bytes of a backup's stream; the caller closes it.

    `plain_size`, where the sentinel tells it (0: not known), must be reached exactly. Raises ObjectNotFound,
    IntegrityError here or while reading, never a silent early end.
    """
    prefix = f"{folder}{name}/"
    layout = _layout(storage, prefix)
    if layout is None:
        source, _ = open_by_name(context, storage, f"{prefix}stream")
    else:
        source = _open_split(context, storage, prefix, layout)
    bucket = disk_bucket(context)
    if bucket:
        source = LimitedReader(source, bucket)
    return ExactReader(source, plain_size, name) if plain_size else source


class ExactReader:
    """Passes bytes through and raises IntegrityError when they end before `size` bytes or go on after."""

    def __init__(self, source: Reader, size: int, name: str) -> None:
        self._source = source
        self._size = size
        self._count = 0
        self._name = name

    def read(self, size: int = -1, /) -> bytes:
        piece = self._source.read(size)
        self._count += len(piece)
        if self._count > self._size or (not piece and size and self._count != self._size):
            raise IntegrityError(
                f"the stream of backup {self._name} has {self._count} bytes{'' if not piece else ' or more'}, its"
                f" sentinel says {self._size}",
                hint="the backup is damaged or incomplete; use another one",
            )
        return piece

    def close(self) -> None:
        self._source.close()


class _Layout(NamedTuple):
    partitions: int
    block_size: int
    extension: str


def _layout(storage: Storage, prefix: str) -> _Layout | None:
    """How a split backup was cut; None for a single stream."""
    key = prefix + METADATA
    try:
        data = storage.get(key, 1 << 20)
    except ObjectNotFound:
        return None
    document = Document.parse(data, key)
    kind = document.text("type")
    if kind in ("", SINGLE_TYPE):
        return None
    if kind != SPLIT_TYPE:
        raise IntegrityError(f"Unknown backup type {kind} in '{key}'")
    block_size = document.number("block_size")
    if block_size < 1:
        raise IntegrityError(f"'{key}' tells no block size, without which the partitions cannot be joined")
    return _Layout(document.number("partitions"), block_size, document.text("compression").removeprefix("."))


def _open_split(context: Context, storage: Storage, prefix: str, layout: _Layout) -> Reader:
    extension = layout.extension
    if extension and context.catalog.by_extension(extension) is None:
        raise IntegrityError(f"decompressor for file type '{extension}' not found")
    found = _partitions(storage, prefix, layout)
    readers: list[Reader] = [IterReader(_concatenated(context, storage, keys, extension)) for keys in found]
    stages = [Ahead(reader) for reader in readers] if len(readers) <= _PREFETCHING else []

    def close() -> None:
        for reader in stages or readers:
            reader.close()

    return IterReader(join(stages or readers, layout.block_size), close)


def _partitions(storage: Storage, prefix: str, layout: _Layout) -> list[list[str]]:
    """The keys of every partition in order. Raises IntegrityError where one is absent."""
    suffix = f".{layout.extension}" if layout.extension else ""
    whole: dict[int, str] = {}
    files: dict[int, dict[int, str]] = {}
    for info in storage.list_dir(prefix):
        match = _PART.fullmatch(info.key[len(prefix) :].removesuffix(suffix))
        if not match or not info.key.endswith(suffix):
            continue
        if match.group(2) is None:
            whole[int(match.group(1))] = info.key
        else:
            files.setdefault(int(match.group(1)), {})[int(match.group(2))] = info.key
    highest = max([*whole, *files], default=-1)
    # A partition that had no data has no files; where files have no size limit every partition has its object.
    count = layout.partitions if layout.partitions and not files else max(layout.partitions, highest + 1)
    if highest >= count or count < 1:
        raise IntegrityError(f"{prefix}: {highest + 1} partitions found, {layout.partitions} expected")
    out = []
    for number in range(count):
        numbered = files.get(number)
        if numbered:
            if sorted(numbered) != list(range(len(numbered))):
                raise IntegrityError(f"{prefix}: a file of partition {number} is missing: the backup is incomplete")
            out.append([numbered[at] for at in range(len(numbered))])
        elif number in whole:
            out.append([whole[number]])
        elif files and number > highest:
            out.append([])
        else:
            raise IntegrityError(f"{prefix}: partition {number} is missing: the backup is incomplete")
    return out


def _concatenated(context: Context, storage: Storage, keys: list[str], extension: str) -> Iterator[bytes]:
    """The files one after the other, each closed as it ends."""
    for key in keys:
        source = read(context, storage, key, extension)
        try:
            while piece := source.read(CHUNK):
                yield piece
        finally:
            source.close()
