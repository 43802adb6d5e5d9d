"""Which binlogs a fetch, a replay or the server covers (spec/mysql.md 7.5; 14, rows 1, 6 and 7)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.backups import catalog, times
from walg_core.errors import UsageError
from walg_core.observe import log
from walg_core.settings.parse import parse_duration

from walg_mysql.journal.archive import Binlog, list_binlogs
from walg_mysql.journal.events import first_timestamp
from walg_mysql.sentinel import Sentinel

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

SECOND = 10**9
FOREVER = 253402300799 * SECOND
"""9999-12-31T23:59:59Z."""
_SENTINEL_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """Times in ns since the epoch: uploaded from `start` to `modified`, up to the first that begins after `until`."""

    start: int
    until: int = FOREVER
    modified: int = FOREVER


def parse_time(text: str, flag: str, default: int = FOREVER) -> int:
    """RFC 3339. Raises UsageError naming the flag."""
    if not text:
        return default
    try:
        return times.parse(text)
    except ValueError as error:
        raise UsageError(
            f"{flag}: {error}", hint="a time is written as 2024-01-02T15:04:05Z or with an offset"
        ) from None


def process_start() -> int:
    """Now, in whole seconds: the default of `--until`."""
    return int(time.time()) * SECOND


def start_of(storage: Storage, name: str) -> int:
    """From when on uploaded binlogs may hold what the backup lacks. Raises NoBackups, IntegrityError."""
    entry = catalog.find(storage, name)
    sentinel = Sentinel.decode(storage.get(entry.key, _SENTINEL_LIMIT), entry.key)
    found = [
        info.modified_ns
        for info in storage.list_dir(catalog.FOLDER)
        if info.key.removeprefix(catalog.FOLDER).startswith(entry.name)
    ]
    if sentinel.start_ns != times.ZERO:
        found.append(sentinel.start_ns)
    first = [b.modified_ns for b in list_binlogs(storage) if b.name.startswith(sentinel.binlog_start)]
    if sentinel.binlog_start and not first:
        log.warning(
            f"{sentinel.binlog_start}, in which backup {entry.name} begins, is no longer archived: "
            "transactions made while the backup ran may be missing from a replay"
        )
    return min(found + first)


def of_flags(storage: Storage, since: str, until: str, modified: str) -> Range:
    """From the three flags that fetch, replay and server share. Raises UsageError, NoBackups."""
    end = parse_time(until, "--until", process_start())
    last = parse_time(modified, "--until-binlog-last-modified-time")
    return Range(start_of(storage, since), end, last)


def bound(storage: Storage, text: str, flag: str, default: int) -> int:
    """A bound of `binlog-list`: `LATEST`, a duration back from now, or a time. Raises UsageError, NoBackups."""
    if text.upper() == catalog.LATEST:
        return start_of(storage, catalog.LATEST)
    try:
        return times.now() - int(parse_duration(text) * SECOND) if text else default
    except ValueError:
        return parse_time(text, flag)


def binlogs_of(context: Context, storage: Storage, chosen: Range) -> Iterator[Binlog]:
    """The binlogs of a range in replay order, with those that are uploaded while the caller works.

    The first that begins after `until` is the last to come: its transactions may have begun before.
    """
    handled: set[str] = set()
    since = chosen.start
    while True:
        fresh = [
            binlog
            for binlog in list_binlogs(storage)
            if since <= binlog.modified_ns <= chosen.modified and binlog.key not in handled
        ]
        if not fresh:
            return
        for binlog in fresh:
            handled.add(binlog.key)
            since = binlog.modified_ns
            yield binlog
            # What was uploaded before cannot have begun after.
            if binlog.modified_ns > chosen.until and start_time(context, storage, binlog) > chosen.until // SECOND:
                return


def start_time(context: Context, storage: Storage, binlog: Binlog) -> int:
    """Unix time of a binlog's first event: when its file was begun. Reads its first bytes only."""
    source = binlog.open(context, storage)
    try:
        return first_timestamp(source, binlog.name)
    finally:
        source.close()
