"""The server's BASE_BACKUP command over the replication protocol, with libpq through psycopg (spec 10).

Facts of the messages: PostgreSQL's documentation, "Streaming Replication Protocol".
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from typing import NamedTuple

from psycopg import pq
from walg_core.errors import EngineError, IntegrityError
from walg_core.observe import log

from walg_pg.lsn import parse_lsn
from walg_pg.server import parameters, place

_WAIT = 1.0


class Position(NamedTuple):
    """A place in the WAL."""

    lsn: int
    timeline: int


class Archive(NamedTuple):
    """One tar of the server: of the tablespace `oid` ("": the data directory)."""

    oid: str


def command(major: int, *, rate: int, verify: bool) -> str:
    """BASE_BACKUP for a server's major version; `rate` in kB/s, 0 for no limit."""
    if major >= 15:
        options = ["LABEL 'wal-g'", "CHECKPOINT 'fast'"]
        options += [f"MAX_RATE {rate}"] if rate else []
        options += ["TABLESPACE_MAP"] + ([] if verify else ["VERIFY_CHECKSUMS false"])
        return f"BASE_BACKUP({', '.join(options)})"
    words = ["BASE_BACKUP LABEL 'wal-g' FAST"] + ([f"MAX_RATE {rate}"] if rate else []) + ["TABLESPACE_MAP"]
    return " ".join(words + (["NOVERIFY_CHECKSUMS"] if major >= 11 and not verify else []))


class BaseBackup:
    """One run of the command. Order: `start`, then `archives` with `data` for each, then `finish`; always `close`."""

    def __init__(self, watch: Callable[[], None]) -> None:
        """Connect. `watch` is called about once a second while waiting; what it raises ends the waiting."""
        host = parameters(os.environ).get("host")
        words = ["replication=yes", "application_name=" + (os.environ.get("PGAPPNAME") or "wal-g")]
        words += [f"host={host}"] if host else []
        self._connection = pq.PGconn.connect(" ".join(words).encode())
        if self._connection.status != pq.ConnStatus.OK:
            reason = self._connection.error_message.decode(errors="replace").strip()
            self._connection.finish()
            raise EngineError(
                f"no replication connection to {place(os.environ)}: {reason}",
                hint="the user needs the REPLICATION right and a line for `replication` in pg_hba.conf",
            )
        self._connection.notice_handler = _notice
        self._watch = watch
        self.major = self._connection.server_version // 10000
        self.tablespaces: dict[str, str] = {}
        self._oids: list[str] = []
        self._pending: bytes | None = None
        self._ended = False

    def start(self, *, rate: int, verify: bool) -> Position:
        """Begin: where the backup starts; `tablespaces` (oid → location) are known then."""
        self._connection.send_query(command(self.major, rate=rate, verify=verify).encode())
        position = self._position(self._result(pq.ExecStatus.TUPLES_OK))
        table = self._result(pq.ExecStatus.TUPLES_OK)
        for row in range(table.ntuples):
            oid = (table.get_value(row, 0) or b"").decode()
            self._oids.append(oid)
            if oid:
                self.tablespaces[oid] = (table.get_value(row, 1) or b"").decode()
        return position

    def archives(self) -> Iterator[Archive]:
        """The server's tars, one after the other; each one's `data` must be read to its end."""
        if self.major < 15:
            for oid in self._oids:
                self._result(pq.ExecStatus.COPY_OUT)
                self._ended = False
                yield Archive(oid)
            return
        self._result(pq.ExecStatus.COPY_OUT)
        self._pending = self._copy_data()
        while self._pending is not None:
            message, self._pending = self._pending, None
            if message[:1] != b"n":
                raise IntegrityError(f"BASE_BACKUP sent {message[:1]!r} where a new archive was expected")
            name = message[1:].split(b"\0")[0].decode()
            oid = name.removesuffix(".tar")
            self._ended = False
            yield Archive("" if oid == "base" else oid)

    def data(self) -> bytes:
        """The next piece of the present archive, of any size; empty at its end."""
        while not self._ended:
            message = self._copy_data()
            if message is None:
                self._ended = True
            elif self.major < 15:
                return message
            elif message[:1] == b"d":
                if len(message) > 1:
                    return message[1:]
            elif message[:1] == b"n":
                self._pending = message
                self._ended = True
            elif message[:1] == b"m":
                while self._copy_data() is not None:
                    continue
                self._ended = True
        return b""

    def finish(self) -> Position:
        """Where the backup ends; the server has waited for its WAL to be archived."""
        position = self._position(self._result(pq.ExecStatus.TUPLES_OK))
        self._result(pq.ExecStatus.COMMAND_OK)
        return position

    def close(self) -> None:
        """End the connection, and with it a backup that still runs."""
        self._connection.finish()

    def _position(self, row: pq.abc.PGresult) -> Position:
        if row.ntuples != 1:
            raise EngineError("BASE_BACKUP gave no position")
        return Position(parse_lsn((row.get_value(0, 0) or b"").decode()), int(row.get_value(0, 1) or 0))

    def _result(self, expected: pq.ExecStatus) -> pq.abc.PGresult:
        while self._connection.is_busy():
            self._wait()
        result = self._connection.get_result()
        if result is None:
            raise EngineError("the server ended BASE_BACKUP early", hint="see the server's log")
        if result.status != expected:
            reason = result.error_message.decode(errors="replace").strip() or pq.ExecStatus(result.status).name
            raise EngineError(f"BASE_BACKUP failed: {reason}", hint="see the server's log")
        return result

    def _copy_data(self) -> bytes | None:
        """One CopyData message, None at the end of the copy."""
        while True:
            size, data = self._connection.get_copy_data(1)
            if size > 0:
                return bytes(data)
            if size == -1:
                return None
            if size == -2:
                reason = self._connection.error_message.decode(errors="replace").strip()
                raise EngineError(f"BASE_BACKUP broke off: {reason}")
            self._wait()

    def _wait(self) -> None:
        while not select.select([self._connection.socket], [], [], _WAIT)[0]:
            self._watch()
        try:
            self._connection.consume_input()
        except Exception as error:
            raise EngineError(f"lost the connection during BASE_BACKUP: {error}") from error


def _notice(result: pq.abc.PGresult) -> None:
    text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    severity = (result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) or b"").decode()
    (log.warning if severity == "WARNING" else log.debug)(f"server: {text}")
