"""Which segments the archive holds, timeline by timeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from walg_core.context import Context
from walg_core.storage.api import Storage

from walg_pg.journal.history import plain_name
from walg_pg.lsn import NotASegmentName, is_segment_name, parse_segment_name, segment_name


@dataclass(slots=True)
class Timeline:
    """The segments of one timeline: sorted, distinct segment numbers."""

    number: int
    segment_size: int
    segments: list[int] = field(default_factory=list)

    @property
    def first(self) -> str:
        return segment_name(self.number, self.segments[0], self.segment_size)

    @property
    def last(self) -> str:
        return segment_name(self.number, self.segments[-1], self.segment_size)

    @property
    def span(self) -> int:
        """How many segments lie between first and last, both included."""
        return self.segments[-1] - self.segments[0] + 1

    def missing(self) -> list[str]:
        """Names of the gaps between first and last, highest first."""
        gaps: list[str] = []
        for left, right in pairwise(self.segments):
            gaps.extend(segment_name(self.number, number, self.segment_size) for number in range(left + 1, right))
        return gaps[::-1]


def archived_names(context: Context, wal: Storage) -> Iterator[str]:
    """Names as they were archived; metadata, deltas and what no compressor of ours made are left as they are."""
    extensions = {c.extension for c in context.catalog.compressors.values() if c.extension}
    for info in wal.list_dir():
        yield plain_name(info.key, extensions)


def timelines(context: Context, wal: Storage, segment_size: int) -> dict[int, Timeline]:
    """The archive's timelines by number, ascending."""
    found: dict[int, set[int]] = {}
    for name in archived_names(context, wal):
        if not is_segment_name(name):
            continue
        try:
            timeline, number = parse_segment_name(name, segment_size)
        except NotASegmentName:
            continue
        found.setdefault(timeline, set()).add(number)
    return {number: Timeline(number, segment_size, sorted(found[number])) for number in sorted(found)}
