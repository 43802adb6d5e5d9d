"""Where the changed blocks of a delta come from: WAL deltas, WAL summaries, or a scan of the files (spec 9.2)."""

from __future__ import annotations

import os
import time

import numpy as np
from walg_core.context import Context
from walg_core.errors import EngineError, WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_pg.backup.base import Base
from walg_pg.backup.blocks import BlockMap, ChangedBlocks, RecordedBlocks, SummarizedBlocks
from walg_pg.backup.mode import ServerFacts
from walg_pg.backup.pages import Blocks
from walg_pg.backup.walk import Relation
from walg_pg.lsn import format_lsn, parse_lsn
from walg_pg.names import timeline_of
from walg_pg.server import Server

SUMMARIES_SINCE = 170000
_PATIENCE = 60
_ARCHIVE_PATIENCE = 10


def block_map(
    context: Context, storage: Storage, server: Server, facts: ServerFacts, base: Base, start_lsn: int
) -> BlockMap | None:
    """The map that the settings ask for; None: scan the files.

    A map that cannot be had is a warning and a scan, or EngineError with `WALG_FORCE_WAL_DELTA`.
    """
    config = context.config
    failures = []
    if config.get("WALG_USE_WAL_SUMMARIES"):
        try:
            return summarized(server, facts, base, start_lsn)
        except WalgError as error:
            failures.append(f"WAL summaries: {error}")
    if config.get("WALG_USE_WAL_DELTA"):
        try:
            changed = _recorded(context, storage, facts, base.lsn, start_lsn)
            log.info("Changed blocks are taken from WAL deltas")
            return RecordedBlocks(changed)
        except WalgError as error:
            failures.append(f"WAL deltas: {error}")
    if failures and config.get("WALG_FORCE_WAL_DELTA"):
        raise EngineError(
            f"the changed blocks are not known ({'; '.join(failures)}) and WALG_FORCE_WAL_DELTA forbids a scan",
            hint="unset WALG_FORCE_WAL_DELTA, or push a full backup with --full",
        )
    for failure in failures:
        log.warning(f"{failure}; the data files are scanned instead")
    return None


def _recorded(context: Context, storage: Storage, facts: ServerFacts, since: int, until: int) -> ChangedBlocks:
    """The archive's map. The segment before the backup's start may be on its way there: waits some seconds for it."""
    from walg_pg.journal.delta_map import DeltaMapUnavailable, load

    folder = "pg_wal" if facts.version >= 100000 else "pg_xlog"
    wal = os.path.join(facts.data_directory, folder)
    deadline = time.monotonic() + _ARCHIVE_PATIENCE
    while True:
        try:
            return load(context, storage, facts.timeline, since, until, wal)
        except DeltaMapUnavailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def summarized(server: Server, facts: ServerFacts, base: Base, start_lsn: int) -> SummarizedBlocks:
    """From the server's own summaries (PostgreSQL 17 and later, `summarize_wal`), which must cover everything since.

    Raises EngineError when they do not, after waiting for the summarizer to reach `start_lsn`.
    """
    if server.version < SUMMARIES_SINCE:
        raise EngineError("the server is older than PostgreSQL 17")
    if timeline_of(base.name) != facts.timeline:
        raise EngineError("the base is on another timeline")
    if server.value("show summarize_wal") != "on":
        raise EngineError("summarize_wal is off")
    ranges = _covering(server, facts.timeline, base.lsn, start_lsn)
    blocks: dict[Relation, list[Blocks]] = {}
    limits: dict[Relation, int] = {}
    for begin, end in ranges:
        rows = server.query(
            "select reltablespace::int8, reldatabase::int8, relfilenode::int8, is_limit_block,"
            " array_agg(relblocknumber) from pg_wal_summary_contents($1, $2::text::pg_lsn, $3::text::pg_lsn)"
            " where relforknumber = 0 group by 1, 2, 3, 4",
            facts.timeline,
            format_lsn(begin),
            format_lsn(end),
        )
        for tablespace, database, node, is_limit, numbers in rows:
            relation = Relation(tablespace, database, node)
            if is_limit:
                limits[relation] = min(limits.get(relation, 1 << 32), *numbers)
            else:
                blocks.setdefault(relation, []).append(np.array(numbers, np.uint32))
    log.info(f"Changed blocks are taken from {len(ranges)} WAL summaries")
    return SummarizedBlocks({key: np.unique(np.concatenate(value)) for key, value in blocks.items()}, limits)


def _covering(server: Server, timeline: int, since: int, until: int) -> list[tuple[int, int]]:
    """Summaries that together cover `since` to `until` without a gap."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        rows = server.query(
            "select start_lsn::text, end_lsn::text from pg_available_wal_summaries() where tli = $1", timeline
        )
        known = sorted((parse_lsn(begin), parse_lsn(end)) for begin, end in rows)
        used = [(begin, end) for begin, end in known if end > since and begin < until]
        reached = since
        for begin, end in used:
            if begin > reached:
                raise EngineError(f"no summary covers {format_lsn(reached)}; see wal_summary_keep_time")
            reached = max(reached, end)
        if reached >= until:
            return used
        if time.monotonic() > deadline:
            raise EngineError(f"the summarizer has only reached {format_lsn(reached)}, not {format_lsn(until)}")
        time.sleep(0.2)
