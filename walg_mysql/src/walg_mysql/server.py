"""Talking to the server: one connection, synchronous calls over aiomysql (spec/mysql.md 3)."""

from __future__ import annotations

import asyncio
from typing import Any

import aiomysql
import pymysql
from walg_core.errors import ConfigError, EngineError
from walg_core.observe import log
from walg_core.settings.config import Config

from walg_mysql.dsn import DataSource, parse_dsn
from walg_mysql.journal.gtid import GtidSet, MariadbGtidSet, MysqlGtidSet


class Server:
    """A session with the server. Not for use from several threads at once."""

    def __init__(self, source: DataSource, ca_file: str | None = None) -> None:
        self.source = source
        self._loop = asyncio.new_event_loop()
        self._connection = self._connect(ca_file)
        self.version = str(self.value("SELECT @@version"))
        self.is_mariadb = "MariaDB" in self.version

    @classmethod
    def from_config(cls, config: Config) -> Server:
        """The server of `WALG_MYSQL_DATASOURCE_NAME`. Raises ConfigError, EngineError."""
        return cls(parse_dsn(config.require("WALG_MYSQL_DATASOURCE_NAME")), config.get("WALG_MYSQL_SSL_CA"))

    def _connect(self, ca_file: str | None) -> aiomysql.Connection:
        try:
            return self._open(self.source.host, ca_file)
        except (OSError, pymysql.err.MySQLError) as first:
            if self.source.network != "tcp" or self.source.host == "localhost":
                raise self._refused(first) from first
            try:
                return self._open("localhost", ca_file)
            except (OSError, pymysql.err.MySQLError):
                raise self._refused(first) from first

    def _refused(self, error: Exception) -> EngineError:
        self._loop.close()
        where = self.source.socket or f"{self.source.host}:{self.source.port}"
        text = error.args[-1] if error.args else error
        return EngineError(
            f"cannot connect to the MySQL server at {where}: {text}",
            hint="check WALG_MYSQL_DATASOURCE_NAME (address, user, password) and that the server runs",
        )

    def _open(self, host: str, ca_file: str | None) -> aiomysql.Connection:
        context = self.source.ssl_context(ca_file)
        options: dict[str, Any] = {
            "user": self.source.user or None,
            "password": self.source.password,
            "db": self.source.database or None,
            "autocommit": True,
            "connect_timeout": self.source.timeout,
        }
        if self.source.socket:
            options["unix_socket"] = self.source.socket
        else:
            options |= {"host": host, "port": self.source.port}
        try:
            return self._loop.run_until_complete(aiomysql.connect(ssl=context, **options))
        except (OSError, pymysql.err.MySQLError):
            if context is None or not self.source.tls_optional:
                raise
            log.warning("the server offers no TLS; going on without it, as tls=preferred allows")
            return self._loop.run_until_complete(aiomysql.connect(**options))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of one statement. Raises EngineError with the server's words."""

        async def run() -> list[tuple[Any, ...]]:
            async with self._connection.cursor() as cursor:
                await cursor.execute(sql)
                return list(await cursor.fetchall())

        try:
            return self._loop.run_until_complete(run())
        except (OSError, pymysql.err.MySQLError) as error:
            raise EngineError(f"the MySQL server refused '{sql}': {error.args[-1] if error.args else error}") from error

    def value(self, sql: str) -> Any:
        """The first column of the first row. Raises EngineError when there is none."""
        rows = self.rows(sql)
        if not rows:
            raise EngineError(f"the MySQL server answered '{sql}' with no row")
        return rows[0][0]

    def uuid(self) -> str:
        """The server's UUID; empty for MariaDB, which has none."""
        return "" if self.is_mariadb else str(self.value("SELECT @@server_uuid"))

    def executed_gtids(self) -> GtidSet:
        """What the server has executed."""
        if self.is_mariadb:
            return MariadbGtidSet.parse(str(self.value("SELECT @@global.gtid_current_pos") or ""))
        return MysqlGtidSet.parse(str(self.value("SELECT @@global.gtid_executed") or ""))

    def binlog_index(self) -> str:
        """Path of the index file of the binary logs, on the server's host."""
        path = self.value("SELECT @@log_bin_index")
        if not path:
            raise ConfigError(
                "the MySQL server writes no binary log (log_bin is off)", hint="start the server with log_bin enabled"
            )
        return str(path)

    def binlog_basename(self) -> str:
        """`log_bin_basename`: directory and prefix of the binary logs."""
        rows = self.rows("SHOW VARIABLES LIKE 'log_bin_basename'")
        if not rows or not rows[0][1]:
            raise EngineError("the MySQL server does not tell log_bin_basename", hint="is log_bin enabled?")
        return str(rows[0][1])

    def close(self) -> None:
        """End the session. Idempotent."""
        if not self._loop.is_closed():
            self._connection.close()
            self._loop.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
