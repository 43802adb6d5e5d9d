"""Which blocks changed since the base, as told by WAL deltas or by the server's WAL summaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from walg_pg.backup.pages import Blocks
from walg_pg.backup.walk import Relation

ChangedBlocks = Callable[[Relation], Any]
"""A relation → ascending array of absolute block numbers over all its segments, or None: nothing was recorded."""


class BlockMap(Protocol):
    """Answers for one segment file."""

    def within(self, relation: Relation, first: int, count: int) -> Blocks | None:
        """Changed blocks among the `count` from absolute block `first`, as numbers from 0; None: not known."""


class RecordedBlocks:
    """The map of `walg_pg.journal.delta_map`: what it has nothing about did not change.

    The original skips such a file. Here it becomes an increment without pages, which also brings the file to its
    present size where it was truncated since.
    """

    def __init__(self, changed: ChangedBlocks) -> None:
        self._changed = changed

    def within(self, relation: Relation, first: int, count: int) -> Blocks | None:
        """Never None: WAL deltas cover everything between the two backups."""
        blocks = self._changed(relation)
        if blocks is None:
            return np.empty(0, np.uint32)
        return cut(np.asarray(blocks), first, count)


class SummarizedBlocks:
    """From WAL summaries: per relation the changed blocks, and the limit from which on everything may be different."""

    def __init__(self, blocks: Mapping[Relation, Blocks], limits: Mapping[Relation, int]) -> None:
        self._blocks = blocks
        self._limits = limits

    def within(self, relation: Relation, first: int, count: int) -> Blocks | None:
        """Never None: summaries cover everything between the two backups."""
        known = self._blocks.get(relation)
        changed = np.empty(0, np.uint32) if known is None else cut(known, first, count)
        limit = self._limits.get(relation)
        if limit is not None and limit < first + count:
            rest = np.arange(max(0, limit - first), count, dtype=np.uint32)
            changed = np.union1d(changed, rest)
        return changed


def cut(blocks: Any, first: int, count: int) -> Blocks:
    """The part of an ascending array of absolute numbers that lies in `count` blocks from `first`, counted from 0."""
    start, end = np.searchsorted(blocks, [first, first + count])
    part: Blocks = (blocks[start:end].astype(np.int64) - first).astype(np.uint32)
    return part
