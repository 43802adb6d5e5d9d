"""Recording changed blocks while segments are archived (`WALG_USE_WAL_DELTA`, spec/postgres-wal.md 5.4).

Only groups that were touched are rewritten, each file whole and durable, so that archiving a history or label file, or
a crash, loses nothing (14, item 6).
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from walg_core.context import Context
from walg_core.errors import IntegrityError, WalgError
from walg_core.io import atomic
from walg_core.observe import log
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import BytesReader
from walg_core.storage.api import Storage

from walg_pg.journal.delta_files import GROUP, Part, delta_name, group_of, read_delta, write_delta
from walg_pg.journal.records import Parsed, parse_record, parse_segment
from walg_pg.lsn import NotASegmentName, parse_segment_name


@dataclass(slots=True)
class Group:
    """One group's state. `cancelled` says why it is not recorded in this process, "" when it is."""

    name: str
    locations: set[bytes] = field(default_factory=set)
    part: Part = field(default_factory=Part)
    magic: int = 0
    cancelled: str = ""


class Recorder:
    """Collects what segments touch and keeps it in `folder` until a group is complete. Threads may share it.

    A failure of any kind stops only the recording of the groups concerned, never the archiving.
    """

    def __init__(self, folder: str, segment_size: int, page_size: int) -> None:
        self.folder = folder
        self.segment_size = segment_size
        self.page_size = page_size
        self._groups: dict[tuple[int, int], Group] = {}
        self._lock = threading.Lock()

    def record(self, path: str) -> None:
        """Parse the segment at `path`; anything but a plain segment is left alone."""
        name = os.path.basename(path)
        if not self._position(name):
            return
        try:
            with open(path, "rb") as file:
                data = file.read(self.segment_size + 1)
        except OSError as error:
            self._give_up(name, error)
            return
        self.record_bytes(name, data)

    def record_bytes(self, name: str, data: bytes) -> None:
        """The same for a segment in memory."""
        position = self._position(name)
        if not position:
            return
        try:
            parsed = parse_segment(data, self.page_size)
            if parsed.tail is None:
                raise IntegrityError("no record begins in it")
        except IntegrityError as error:
            self._give_up(name, error)
            return
        self._add(*position, parsed, int.from_bytes(data[:2], "little"))

    def _position(self, name: str) -> tuple[int, int] | None:
        try:
            return parse_segment_name(name, self.segment_size)
        except NotASegmentName:
            return None

    def _give_up(self, name: str, error: Exception) -> None:
        log.warning(f"Stopped wal file: '{name}' recording because of error: {error}")
        self._cancel(*parse_segment_name(name, self.segment_size), str(error))

    def _add(self, timeline: int, number: int, parsed: Parsed, magic: int) -> None:
        position = number % GROUP
        with self._lock:
            group = self._group(timeline, group_of(number))
            group.magic = magic
            group.part.tails[position] = parsed.tail or b""
            group.part.heads[position] = parsed.head
            group.locations |= parsed.locations
            if position == GROUP - 1:
                self._group(timeline, number + 1).part.previous_head = parsed.head

    def _cancel(self, timeline: int, number: int, why: str) -> None:
        with self._lock:
            for each in (number, number + 1):
                self._group(timeline, group_of(each)).cancelled = why

    def _group(self, timeline: int, first: int) -> Group:
        key = (timeline, first)
        if key not in self._groups:
            self._groups[key] = self._load(delta_name(timeline, first, self.segment_size))
        return self._groups[key]

    def _load(self, name: str) -> Group:
        group = Group(name)
        path = os.path.join(self.folder, name)
        try:
            if os.path.exists(path):
                with open(path, "rb") as file:
                    group.locations, _ = read_delta(file, name)
            if os.path.exists(path + "_part"):
                with open(path + "_part", "rb") as file:
                    group.part = Part.read(file.read(), name + "_part")
        except (OSError, IntegrityError) as error:
            log.warning(f"the unfinished delta {name} is unreadable and begun anew: {error}")
            return Group(name)
        return group

    def flush(self, context: Context, wal: Storage) -> None:
        """Upload what is complete, keep the rest on disk. `wal` is the storage's WAL folder."""
        with self._lock:
            for group in self._groups.values():
                if group.cancelled:
                    continue
                try:
                    self._flush_one(group, context, wal)
                except (WalgError, OSError) as error:
                    log.warning(f"the delta {group.name} could not be finished and is kept for the next time: {error}")
            if self._groups:
                self._drop_stale(max(self._groups))
            self._groups.clear()

    def _drop_stale(self, newest: tuple[int, int]) -> None:
        """Forget groups that were begun in the middle and are long past: they can never become complete."""
        timeline, first = newest
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            stem = name.removesuffix("_part")
            if not stem.endswith("_delta"):
                continue
            try:
                of = parse_segment_name(stem.removesuffix("_delta"), self.segment_size)
            except NotASegmentName:
                continue
            if of[0] < timeline or (of[0] == timeline and of[1] < first - 2 * GROUP):
                os.unlink(os.path.join(self.folder, name))

    def _flush_one(self, group: Group, context: Context, wal: Storage) -> None:
        path = os.path.join(self.folder, group.name)
        atomic.make_dirs(self.folder, 0o700)
        # The part goes first: a delta file without it would look like a group that knows nothing of its edges.
        atomic.write_file(path + "_part", group.part.write(), mode=0o600)
        atomic.write_file(path, write_delta(group.locations, b""), mode=0o600)
        if not group.part.complete:
            return
        for record in group.part.crossing():
            group.locations |= parse_record(record, group.magic)
        data = write_delta(group.locations, group.part.heads[GROUP - 1])
        stored = transfer.store(context, wal, group.name, BytesReader(data))
        log.info(f"FILE PATH: {stored.key}")
        os.unlink(path)
        os.unlink(path + "_part")
