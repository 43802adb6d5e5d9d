"""Which archived binlog a set of GTIDs begins in (spec/mysql.md 7.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from walg_core.errors import IntegrityError
from walg_core.observe import log

from walg_mysql.journal.archive import Binlog, list_binlogs
from walg_mysql.journal.events import previous_gtids
from walg_mysql.journal.gtid import GtidSet, contains

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

    from walg_mysql.server import Server


def archived_start(context: Context, storage: Storage, binlog: Binlog) -> GtidSet | None:
    """What was executed before an archived binlog; None, with a warning, where its start does not tell."""
    source = binlog.open(context, storage)
    try:
        return previous_gtids(source, binlog.name)
    except IntegrityError as error:
        log.warning(f"the start of the archived binlog {binlog.name} cannot be read: {error}")
        return None
    finally:
        source.close()


def binlog_before(context: Context, storage: Storage, gtids: GtidSet) -> str:
    """The newest archived binlog that begins within `gtids`; "" with a warning when none does.

    Every transaction outside `gtids` is in this binlog or a later one. Raises StorageError, CodecError.
    """
    binlogs = list_binlogs(storage)
    for binlog in reversed(binlogs):
        start = archived_start(context, storage, binlog)
        if start is not None and contains(gtids, start):
            return binlog.name
    if binlogs:
        log.warning(f"none of the {len(binlogs)} archived binlogs begins within the GTID set '{gtids}'")
    return ""


def binlog_start(context: Context, storage: Storage, server: Server) -> str:
    """`BinLogStart` of a backup that begins now: where the replay after its restore may begin."""
    return binlog_before(context, storage, server.executed_gtids())


def newest_binlog(storage: Storage) -> str:
    """The binlog that was uploaded last, without extension; "" when none is archived."""
    binlogs = list_binlogs(storage)
    return binlogs[-1].name if binlogs else ""
