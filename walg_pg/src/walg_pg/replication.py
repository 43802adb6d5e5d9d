"""The replication protocol over psycopg's `pq` layer, which asyncpg lacks (PostgreSQL: `protocol-replication`)."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator, Mapping
from typing import Any

from walg_core.errors import EngineError

POSTGRES_EPOCH = 946_684_800
"""Unix time of 2000-01-01, from which the protocol counts microseconds."""


class ReplicationError(EngineError):
    """A command of the replication protocol failed. `sqlstate` is the server's code, "" when the connection broke."""

    def __init__(self, message: str, sqlstate: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class Replication:
    """A physical replication connection made from the libpq environment. Not for several threads at once."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        from psycopg import pq

        self._pq = pq
        name = (environment or os.environ).get("PGAPPNAME") or "wal-g"
        conninfo = f"replication=yes application_name={_quoted(name)} fallback_application_name=wal-g"
        self._connection = pq.PGconn.connect(conninfo.encode())
        if self._connection.status != pq.ConnStatus.OK:
            text = self._connection.error_message.decode(errors="replace").strip()
            self._connection.finish()
            raise ReplicationError(
                f"cannot open a replication connection: {text}",
                hint="check PGHOST, PGUSER, PGPASSWORD, the user's REPLICATION right and pg_hba.conf",
            )

    @property
    def server_version(self) -> int:
        """`server_version_num`."""
        return int(self._connection.server_version)

    def command(self, text: str) -> list[dict[str, str | None]]:
        """Run a command that returns at most one result set; its rows by column name."""
        result = self._connection.exec_(text.encode())
        self._check(result, text)
        return _rows(result)

    def _check(self, result: Any, text: str) -> None:
        good = (self._pq.ExecStatus.TUPLES_OK, self._pq.ExecStatus.COMMAND_OK)
        if result.status not in good:
            raise self._failure(result, text)

    def _failure(self, result: Any, text: str) -> ReplicationError:
        state = result.error_field(self._pq.DiagnosticField.SQLSTATE) or b""
        message = (result.error_message or self._connection.error_message).decode(errors="replace").strip()
        return ReplicationError(f"{text.split('(')[0].strip()}: {message}", state.decode())

    # Copying.

    def start_copy(self, text: str) -> Any:
        """Run a command that answers with a stream (`START_REPLICATION`); raises ReplicationError otherwise.

        A timeline that has no more WAL answers with a result set instead: its rows are returned then.
        """
        result = self._connection.exec_(text.encode())
        if result.status in (self._pq.ExecStatus.COPY_BOTH, self._pq.ExecStatus.COPY_OUT):
            return None
        if result.status in (self._pq.ExecStatus.TUPLES_OK, self._pq.ExecStatus.COMMAND_OK):
            rows = _rows(result)
            while self._connection.get_result() is not None:
                continue
            return rows
        raise self._failure(result, text)

    def messages(self, interval: float) -> Iterator[bytes | None]:
        """The stream's messages; None whenever `interval` seconds passed since the last None. Ends with the stream."""
        connection = self._connection
        alarm = time.monotonic() + interval
        while True:
            try:
                size, data = connection.get_copy_data(1)
            except Exception as error:
                raise ReplicationError(f"lost the connection to the server: {error}") from error
            if size == -1:
                return
            if size > 0:
                yield bytes(data)
            now = time.monotonic()
            if now >= alarm:
                alarm = now + interval
                yield None
            if size == 0:
                self._wait(max(0.0, alarm - now))

    def _wait(self, seconds: float) -> None:
        connection = self._connection
        if connection.socket < 0 or connection.status != self._pq.ConnStatus.OK:
            raise ReplicationError("the connection to the server is lost")
        ready, _, _ = select.select([connection.socket], [], [], seconds)
        if ready:
            try:
                connection.consume_input()
            except Exception as error:
                raise ReplicationError(f"lost the connection to the server: {error}") from error

    def send(self, data: bytes) -> None:
        """One message to the server inside a copy."""
        try:
            self._connection.put_copy_data(data)
            self._connection.flush()
        except Exception as error:
            raise ReplicationError(f"lost the connection to the server: {error}") from error

    def finish_copy(self, *, answer: bool) -> list[dict[str, str | None]]:
        """After the stream's end: the rows that follow it. `answer` sends our own end of a two-way copy.

        Raises ReplicationError with the server's reason when that is how the stream ended.
        """
        rows: list[dict[str, str | None]] = []
        states = self._pq.ExecStatus
        while (result := self._connection.get_result()) is not None:
            if result.status in (states.COPY_BOTH, states.COPY_OUT, states.COPY_IN):
                if answer:
                    answer = False
                    self._connection.put_copy_end()
                    self._connection.flush()
                continue
            self._check(result, "the end of the stream")
            rows = _rows(result) or rows
        return rows

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._connection.finish()

    def __enter__(self) -> Replication:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows(result: Any) -> list[dict[str, str | None]]:
    names = [(result.fname(at) or b"").decode() for at in range(result.nfields)]
    rows: list[dict[str, str | None]] = []
    for row in range(result.ntuples):
        values = [result.get_value(row, at) for at in range(result.nfields)]
        rows.append(
            {name: None if value is None else bytes(value).decode("utf-8", "surrogateescape")
             for name, value in zip(names, values, strict=True)}
        )  # fmt: skip
    return rows


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def clock() -> int:
    """The current time as the protocol counts it: microseconds since 2000-01-01 UTC."""
    return time.time_ns() // 1000 - POSTGRES_EPOCH * 1_000_000
