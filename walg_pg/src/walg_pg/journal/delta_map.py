"""Which blocks changed between two positions, from the archive's delta files (spec/postgres-backup.md 9.2)."""

from __future__ import annotations

import os
from struct import unpack

import numpy as np
from numpy.typing import NDArray
from walg_core.context import Context
from walg_core.errors import ObjectNotFound, WalgError
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import read_all
from walg_core.storage.api import Storage

from walg_pg.journal import place
from walg_pg.journal.delta_files import GROUP, delta_name, group_of, read_delta
from walg_pg.journal.records import parse_record, parse_segment
from walg_pg.lsn import segment_name

Blocks = NDArray[np.uint32]


class DeltaMapUnavailable(WalgError):
    """A delta file or segment that the map needs is not archived."""


class DeltaMap:
    """Changed blocks by relation; block numbers count over all segment files of the relation."""

    def __init__(self, locations: set[bytes]) -> None:
        rows = np.frombuffer(b"".join(locations), dtype="<u4").reshape(-1, 4)
        rows = rows[np.lexsort(rows.T[::-1])]
        self._blocks: dict[tuple[int, int, int], Blocks] = {}
        if not len(rows):
            return
        edges = np.flatnonzero(np.any(rows[1:, :3] != rows[:-1, :3], axis=1)) + 1
        for group in np.split(rows, edges):
            spc, db, rel = (int(value) for value in group[0, :3])
            self._blocks[spc, db, rel] = group[:, 3].astype(np.uint32)

    def changed_blocks(self, tablespace: int, database: int, relation: int) -> Blocks | None:
        """Ascending block numbers, None when nothing of the relation is in the map."""
        return self._blocks.get((tablespace, database, relation))

    def __call__(self, relation: tuple[int, int, int]) -> Blocks | None:
        """`changed_blocks` of `(tablespace, database, relation file)`."""
        return self._blocks.get(relation)

    def __len__(self) -> int:
        return len(self._blocks)


def load(
    context: Context, storage: Storage, timeline: int, from_lsn: int, to_lsn: int, wal_directory: str = ""
) -> DeltaMap:
    """The map for changes from `from_lsn` (a backup's start) to `to_lsn` (where a record starts), on one timeline.

    `storage` is the archive's root. Segments that are not archived yet, always the one in which a backup begins, are
    read from `wal_directory`, or that of PGDATA. Raises DeltaMapUnavailable when something is missing, IntegrityError,
    any StorageError.
    """
    size = place.segment_size(context.config)
    wal = storage.folder(place.FOLDER)
    last_group = group_of(to_lsn // size)
    first_group = group_of(from_lsn // size)
    locations: set[bytes] = set()
    state: bytes | None = None
    try:
        for group in range(min(first_group, last_group - GROUP), last_group, GROUP):
            found, state = _delta(context, wal, delta_name(timeline, group, size))
            if group >= first_group:
                locations |= found
        first_raw = last_group
    except ObjectNotFound as error:
        # Within one group the raw segments alone tell everything: the base's start is a record's beginning.
        if first_group != last_group:
            raise DeltaMapUnavailable(f"the delta file {error.key} is not archived") from error
        first_raw = from_lsn // size
        state = None
    directory = wal_directory or place.wal_directory(context.config) or ""
    segments = _Segments(context, wal, timeline, directory)
    _raw(segments, range(first_raw, (to_lsn - 1) // size + 1), to_lsn, state, locations)
    return DeltaMap(locations)


def _delta(context: Context, wal: Storage, name: str) -> tuple[set[bytes], bytes]:
    source, _ = transfer.open_by_name(context, wal, name)
    try:
        return read_delta(source, name)
    finally:
        source.close()


def _raw(segments: _Segments, numbers: range, to_lsn: int, state: bytes | None, locations: set[bytes]) -> None:
    """Add what the raw segments touch; `state` is the record that was unfinished before them, None when unknown."""
    for number in numbers:
        # Behind the end may be a record that is being written, or what the file had before it was recycled.
        data = segments.read(number)[: to_lsn - number * segments.size]
        parsed = parse_segment(data, segments.page_size)
        (magic,) = unpack("<H", data[:2]) if len(data) >= 2 else (0,)
        locations |= parsed.locations
        if parsed.tail is None:
            state = None if state is None else state + parsed.head
            continue
        record = (state or b"") + parsed.tail
        if state is not None and record:
            locations |= parse_record(record, magic)
        state = parsed.head


class _Segments:
    """Whole segments from the archive, or from the WAL directory where they are too young for that."""

    def __init__(self, context: Context, wal: Storage, timeline: int, directory: str) -> None:
        self.size = place.segment_size(context.config)
        self.page_size: int = context.config.get("WALG_PG_WAL_PAGE_SIZE")
        self._context = context
        self._wal = wal
        self._timeline = timeline
        self._directory = directory

    def read(self, number: int) -> bytes:
        """Raises DeltaMapUnavailable."""
        name = segment_name(self._timeline, number, self.size)
        try:
            source, _ = transfer.open_by_name(self._context, self._wal, name)
        except ObjectNotFound:
            return self._young(name)
        try:
            return read_all(source, self.size + 1)
        finally:
            source.close()

    def _young(self, name: str) -> bytes:
        try:
            if not self._directory:
                raise FileNotFoundError
            with open(os.path.join(self._directory, name), "rb") as file:
                return file.read(self.size)
        except FileNotFoundError:
            raise DeltaMapUnavailable(f"segment {name} is neither archived nor in the WAL directory") from None
