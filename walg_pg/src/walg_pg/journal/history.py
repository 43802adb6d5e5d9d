"""Timeline history files (PostgreSQL: `access/transam/timeline.c`; spec/postgres-wal.md 7, 9)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from walg_core.context import Context
from walg_core.errors import IntegrityError, ObjectNotFound
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import read_all
from walg_core.storage.api import Storage

LIMIT = 1 << 20


class Switch(NamedTuple):
    """Timeline `timeline` was left at `lsn`."""

    timeline: int
    lsn: int


def history_name(timeline: int) -> str:
    """`%08X.history`."""
    return f"{timeline:08X}.history"


def parse_history(text: str, *, name: str = "the history file") -> list[Switch]:
    """The switches in the file's order; lines that are no records (comments, blanks) are skipped.

    Raises IntegrityError when the timelines do not ascend: such a file describes no history.
    """
    switches: list[Switch] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2 or not words[0].isdigit():
            continue
        high, slash, low = words[1].partition("/")
        try:
            lsn = int(high, 16) << 32 | int(low, 16)
        except ValueError:
            continue
        if slash:
            switches.append(Switch(int(words[0]), lsn))
    if any(left.timeline >= right.timeline for left, right in pairwise(switches)):
        raise IntegrityError(f"{name} is damaged: its timelines do not ascend")
    return switches


def archived_history(context: Context, wal: Storage, timeline: int) -> list[Switch]:
    """The switches that led to `timeline`; empty for timeline 1 and where no history is archived."""
    name = history_name(timeline)
    try:
        source, _ = transfer.open_by_name(context, wal, name)
    except ObjectNotFound:
        return []
    try:
        return parse_history(read_all(source, LIMIT).decode("utf-8", "replace"), name=name)
    finally:
        source.close()


def local_history(directory: str, timeline: int) -> list[Switch]:
    """The same from a WAL directory; empty for timeline 1. Raises OSError when the file is missing."""
    if timeline == 1:
        return []
    name = history_name(timeline)
    with open(f"{directory}/{name}", encoding="utf-8", errors="replace") as file:
        return parse_history(file.read(LIMIT), name=name)


def plain_name(name: str, extensions: Iterable[str]) -> str:
    """An object's name without its compressor's extension, as it was when it was archived."""
    stem, dot, extension = name.rpartition(".")
    return stem if dot and extension in extensions else name
