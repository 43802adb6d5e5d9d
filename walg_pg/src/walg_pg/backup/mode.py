"""The server's side of a backup: facts about it, backup mode on and off, and watching that it lives (spec 3)."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import NamedTuple

from walg_core.errors import ConfigError, EngineError
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_pg.lsn import parse_lsn
from walg_pg.server import Server, ServerGone

OLDEST = 90000


class ServerFacts(NamedTuple):
    """What does not change during a backup. `system_identifier` is None before 9.6; `data_directory` is resolved."""

    version: int
    system_identifier: int | None
    data_directory: str
    timeline: int
    in_recovery: bool


class Started(NamedTuple):
    """Backup mode is on. `segment` is "" on a standby."""

    lsn: int
    segment: str


class Stopped(NamedTuple):
    """Backup mode is off. `label` and `tablespace_map` are None before 9.6."""

    lsn: int
    label: str | None
    tablespace_map: str | None


def facts(server: Server, segment_size: int) -> ServerFacts:
    """Ask the server; raises EngineError, ConfigError for another WAL segment size than the configured one."""
    if server.version < OLDEST:
        raise EngineError(f"PostgreSQL {server.version} is too old: 9.0 is the oldest that can be backed up")
    identifier = None
    if server.version >= 90600:
        identifier = int(server.value("select system_identifier from pg_control_system()")) & 0xFFFFFFFFFFFFFFFF
    directory = os.path.realpath(server.value("show data_directory"))
    return ServerFacts(
        server.version,
        identifier,
        directory,
        timeline(server, segment_size),
        bool(server.value("select pg_is_in_recovery()")),
    )


def timeline(server: Server, segment_size: int) -> int:
    """The current timeline."""
    if server.version < 90600:
        name = server.value("select pg_xlogfile_name(pg_current_xlog_insert_location())")
        return int(name[:8], 16)
    number, size = server.row(
        "select timeline_id, bytes_per_wal_segment from pg_control_checkpoint(), pg_control_init()"
    )
    if size != segment_size:
        raise ConfigError(
            f"the server's WAL segments have {size} bytes, but WALG_PG_WAL_SIZE says {segment_size}",
            hint=f"set WALG_PG_WAL_SIZE={size >> 20}",
        )
    return int(number)


def claim(server: Server, storage: Storage) -> None:
    """Let one backup-push at a time work on this server and this storage; the claim ends with the session.

    An advisory lock of the server, so that it holds between hosts and can be left behind by nobody. Raises EngineError.
    """
    identity = f"wal-g backup-push {storage.identity()}".encode()
    key = int.from_bytes(hashlib.sha256(identity).digest()[:8], "big", signed=True)
    if not server.value("select pg_try_advisory_lock($1)", key):
        raise EngineError(
            "another backup-push of this server to the same storage is running",
            hint="wait for it to end; `select * from pg_locks where locktype = 'advisory'` shows its session",
        )


class BackupMode:
    """Backup mode of one session. `stop` or `abort` must follow `start`; closing the session ends it as well."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.active = False
        self._stopping = False

    def start(self, label: str) -> Started:
        """Begin with an immediate checkpoint."""
        version = self.server.version
        if version >= 150000:
            call = "pg_backup_start($1, true)"
        elif version >= 90600:
            call = "pg_start_backup($1, true, false)"
        else:
            call = "pg_start_backup($1, true)"
        name = "pg_walfile_name_offset" if version >= 100000 else "pg_xlogfile_name_offset"
        self.active = True
        query = (
            f"select case when pg_is_in_recovery() then '' else (select file_name from {name}(lsn)) end,"  # noqa: S608
            f" lsn::text, pg_is_in_recovery() from {call} lsn"
        )
        segment, lsn, recovery = self.server.row(query, label)
        return Started(parse_lsn(lsn), "" if recovery else segment)

    def stop(self, timeout_ms: int = 0, *, wait: bool = True) -> Stopped:
        """End backup mode; the server waits until its WAL is archived, at most `timeout_ms` (0: without limit).

        With `wait` False (from PostgreSQL 10 on) it does not, and the caller does.
        """
        version = self.server.version
        if not self.server.alive:
            raise ServerGone(
                "the connection was lost during the backup; a non-exclusive backup cannot be stopped from another one",
                hint="run backup-push again",
            )
        self._stopping = True
        self.server.execute(f"begin; set local statement_timeout = {int(timeout_ms)}")
        if version >= 150000:
            query = "select lsn::text, labelfile, spcmapfile from pg_backup_stop($1)"
        elif version >= 100000:
            query = "select lsn::text, labelfile, spcmapfile from pg_stop_backup(false, $1)"
        elif version >= 90600:
            query = "select lsn::text, labelfile, spcmapfile from pg_stop_backup(false)"
        else:
            query = "select lsn::text, null, null from pg_stop_backup() lsn"
        lsn, label, tablespace_map = self.server.row(query, *([wait] if version >= 100000 else []))
        self.active = False
        self.server.execute("commit")
        return Stopped(parse_lsn(lsn), label, tablespace_map)

    def abort(self, data_directory: str) -> None:
        """Leave backup mode without waiting for the archive; never raises. PostgreSQL is clean afterwards."""
        if not self.active:
            return
        self.active = False
        version = self.server.version
        if version >= 150000:
            call = "select pg_backup_stop(false)"
        elif version >= 100000:
            call = "select pg_stop_backup(false, false)"
        else:
            # 9.6 leaves non-exclusive mode with the session; only the exclusive mode must be ended by a call.
            call = "select pg_stop_backup()" if version < 90600 else ""
        try:
            if self._stopping:
                self.server.execute("rollback", timeout=30)
            if call:
                self.server.query(call, timeout=30)
            log.info("the server has left backup mode")
        except EngineError as error:
            log.warning(f"could not tell the server to stop the backup: {error}")
            if version < 90600:
                _set_label_aside(data_directory)


def _set_label_aside(data_directory: str) -> None:
    """An exclusive backup's label would keep a crashed server from starting."""
    from walg_core.io.atomic import rename

    label = f"{data_directory}/backup_label"
    try:
        rename(label, label + ".old")
    except OSError as error:
        log.error(f"{label} could not be renamed ({error.strerror}); remove it before the server is started again")


def check_archiving(server: Server, in_recovery: bool) -> bool:
    """Whether this server archives its WAL; a warning when not. Not asked of a standby (False)."""
    if in_recovery:
        return False
    mode = server.value("show archive_mode")
    if mode not in ("on", "always"):
        log.warning(f"archive_mode is {mode}: without archived WAL this backup can only be restored to its own end")
        return False
    command = server.value("show archive_command")
    library = server.value("select current_setting('archive_library', true)") or ""
    if not library and command in ("", "(disabled)"):
        log.warning("archive_command is empty: WAL is not archived, and backup-push will wait for it at the end")
    return True


class AliveCheck:
    """Asks the server every `interval` seconds in a thread of its own (not at all when ≤ 0)."""

    def __init__(self, server: Server, interval: float) -> None:
        self._server = server
        self._interval = interval
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: EngineError | None = None

    def start(self) -> None:
        """Begin to ask."""
        if self._interval > 0:
            self._thread = threading.Thread(target=self._run, name="alive check", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(self._interval):
            try:
                self._server.ping()
            except EngineError as error:
                self.failure = error
                return

    def check(self) -> None:
        """Raises the failure, if there was one."""
        if self.failure is None and not self._server.alive:
            self.failure = ServerGone("lost the connection to the server", hint="see the server's log; then push again")
        if self.failure:
            raise self.failure

    def end(self) -> None:
        """Stop asking."""
        self._end.set()
        if self._thread:
            self._thread.join(1)
