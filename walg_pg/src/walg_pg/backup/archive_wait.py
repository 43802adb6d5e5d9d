"""Waiting until a backup's last WAL is archived.

The server would do it inside its stop function, but looks only once a second, which is half of the time of a small
backup, and cannot tell what it waits for. The signs are its own: `archive_status/<file>.ready` and `.done`
(PostgreSQL's access/transam/xlogarchive.c, XLogArchiveIsBusy).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from walg_core.errors import EngineError
from walg_core.observe import log

from walg_pg.backup.mode import BackupMode, ServerFacts, Stopped
from walg_pg.lsn import segment_name

_SHORT, _LONG = 0.01, 0.2
_FIRST_COMPLAINT = 10.0


def backup_history_name(timeline: int, start_lsn: int, segment_size: int) -> str:
    """The name of the small file with which the server marks a finished backup in its WAL directory."""
    segment = segment_name(timeline, start_lsn // segment_size, segment_size)
    return f"{segment}.{start_lsn % segment_size:08X}.backup"


def is_busy(wal: str, name: str) -> bool:
    """Whether `name` in the WAL directory `wal` still has to be archived."""
    status = f"{wal}/archive_status/{name}"
    if os.path.exists(status + ".done"):
        return False
    if os.path.exists(status + ".ready"):
        return True
    # The archiver may have renamed it between the two looks; a file that is gone was archived and removed.
    return not os.path.exists(status + ".done") and os.path.exists(f"{wal}/{name}")


def wait_archived(wal: str, names: list[str], timeout: float, watch: Callable[[], None]) -> None:
    """Wait for all `names`, at most `timeout` seconds (0: as long as it takes); `watch` is called while waiting.

    Raises EngineError at the time limit: without that WAL the backup cannot be restored.
    """
    started = time.monotonic()
    complaint, pause = _FIRST_COMPLAINT, _SHORT
    waiting = [name for name in names if is_busy(wal, name)]
    while waiting:
        watch()
        spent = time.monotonic() - started
        if timeout and spent > timeout:
            raise EngineError(
                f"WAL file {waiting[0]}, which this backup needs, was not archived within {timeout:.0f} s",
                hint="see the server's log for failures of archive_command; raise WALG_STOP_BACKUP_TIMEOUT",
            )
        if spent > complaint:
            log.warning(f"still waiting for {', '.join(waiting)} to be archived ({spent:.0f} s): does archiving work?")
            complaint *= 2
        time.sleep(pause)
        pause = min(pause * 1.5, _LONG)
        waiting = [name for name in waiting if is_busy(wal, name)]


def stop_archived(
    mode: BackupMode,
    facts: ServerFacts,
    start_lsn: int,
    segment_size: int,
    *,
    timeout: float,
    archiving: bool,
    watch: Callable[[], None],
) -> Stopped:
    """Leave backup mode; on return all WAL since `start_lsn` is archived, where anything is (`archiving`).

    Waits at most `timeout` seconds (0: as long as it takes). Raises EngineError.
    """
    log.info("Calling the stop function")
    wal = f"{facts.data_directory}/pg_wal"
    own_wait = archiving and facts.version >= 100000 and os.path.isdir(f"{wal}/archive_status")
    stopped = mode.stop(int(timeout * 1000), wait=not own_wait)
    if own_wait:
        last = segment_name(facts.timeline, (stopped.lsn - 1) // segment_size, segment_size)
        history = backup_history_name(facts.timeline, start_lsn, segment_size)
        wait_archived(wal, [last, history], timeout, watch)
    return stopped
