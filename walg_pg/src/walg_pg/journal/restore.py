"""wal-restore: bring back the WAL that `pg_rewind` needs from the archive (spec/postgres-wal.md 9.2)."""

from __future__ import annotations

import os

from walg_core.context import Context
from walg_core.errors import EngineError, ObjectNotFound, WalgError
from walg_core.observe import log

from walg_pg.journal import place
from walg_pg.journal.fetch import Fetcher
from walg_pg.journal.history import Switch, local_history
from walg_pg.lsn import is_segment_name, parse_segment_name, segment_name


def restore(context: Context, target: str, source: str) -> list[str]:
    """Fetch into `source`'s WAL directory every segment since it parted from `target`; the names fetched.

    Raises EngineError when the clusters do not belong together, WalgError when a segment could not be fetched.
    """
    missing = missing_segments(target, source, place.segment_size(context.config))
    if not missing:
        log.info("No WAL files to restore")
        return []
    fetcher = Fetcher(context)
    directory = _wal_directory(source)
    failed: list[str] = []
    for name in missing:
        try:
            fetcher.download(name, os.path.join(directory, name))
            log.info(f"restored {name}")
        except ObjectNotFound as error:
            log.error(str(error))
            failed.append(name)
    if failed:
        raise WalgError(f"{len(failed)} of {len(missing)} WAL files could not be fetched, the first is {failed[0]}")
    return missing


def missing_segments(target: str, source: str, segment_size: int) -> list[str]:
    """Segments of `source`'s history since the common point that its WAL directory lacks, newest first."""
    left, right = _control(target), _control(source)
    if left[0] != right[0]:
        raise EngineError(f"the clusters have different system identifiers: {left[0]} and {right[0]}")
    if left[2] == right[2]:
        raise EngineError(
            f"both clusters are on timeline {left[2]}, so nothing parts them",
            hint="give the target first, then the source",
        )
    source_history = _history(source, right[2])
    common = common_point(_history(target, left[2]), source_history)
    directory = _wal_directory(source)
    there = {name.partition(".")[0] for name in os.listdir(directory)}
    own = [name for name in there if is_segment_name(name) and int(name[:8], 16) == right[2]]
    newest = max((parse_segment_name(name, segment_size)[1] for name in own), default=right[1] // segment_size)
    names = []
    timelines = [*source_history, Switch(right[2], 0)]
    for at in range(len(timelines) - 1, -1, -1):
        timeline = timelines[at].timeline
        begins = timelines[at - 1].lsn // segment_size if at else 1
        stop = max(begins, common // segment_size)
        names += [segment_name(timeline, number, segment_size) for number in range(newest, stop - 1, -1)]
        newest = stop - 1 if begins > common // segment_size else -1
        if newest < 0:
            break
    return [name for name in names if name not in there]


def common_point(target: list[Switch], source: list[Switch]) -> int:
    """The LSN up to which both histories are the same."""
    point = 0
    for left, right in zip(target, source, strict=False):
        if left != right:
            return min(left.lsn, right.lsn)
        point = left.lsn
    longer = target if len(target) > len(source) else source
    shorter = min(len(target), len(source))
    return longer[shorter].lsn if len(longer) > shorter else point


def _control(data: str) -> tuple[int, int, int]:
    control = place.read_control(data)
    if control is None:
        raise EngineError(f"{data} is no data directory: global/pg_control cannot be read")
    return control


def _history(data: str, timeline: int) -> list[Switch]:
    try:
        return local_history(_wal_directory(data), timeline)
    except OSError as error:
        raise EngineError(
            f"the history of timeline {timeline} of {data} cannot be read: {error}",
            hint=f"fetch it with `wal-g wal-fetch {timeline:08X}.history …` into its pg_wal",
        ) from error


def _wal_directory(data: str) -> str:
    for name in ("pg_wal", "pg_xlog"):
        path = os.path.join(data, name)
        if os.path.isdir(path):
            return path
    raise EngineError(f"{data} has neither pg_wal nor pg_xlog")
