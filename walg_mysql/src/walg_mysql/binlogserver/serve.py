"""Listening, one thread a client, and the end: when the replica has everything that was sent (spec/mysql.md 8)."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from walg_core.errors import ConfigError, EngineError, WalgError
from walg_core.observe import log

from walg_mysql.binlogserver import dump
from walg_mysql.binlogserver.packets import ProtocolError, Wire, authenticate
from walg_mysql.binlogserver.queries import Session
from walg_mysql.dsn import DataSource, parse_dsn
from walg_mysql.journal.archive import Binlog
from walg_mysql.journal.events import first_description
from walg_mysql.journal.gtid import GtidSet, MariadbGtidSet, MysqlGtidSet, decode_gtid_set
from walg_mysql.journal.ranges import SECOND, Range, binlogs_of
from walg_mysql.journal.transactions import Window
from walg_mysql.server import Server

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

_ID = "WALG_MYSQL_BINLOG_SERVER_ID"
_REPLICA = "WALG_MYSQL_BINLOG_SERVER_REPLICA_SOURCE"
_QUIT, _INIT_DB, _QUERY, _PING, _DUMP, _REGISTER, _DUMP_GTID = 1, 2, 3, 14, 18, 21, 30
_NON_BLOCKING = 1
_POLL = 0.5
_LOGIN = 30.0
"""Seconds in which a client has logged in."""
_PAUSE = 1.0
_TRIES = 10
_DEFAULT_VERSION = "5.7.42"


@dataclass(frozen=True, slots=True)
class Settings:
    """The six settings; the passwords are in no `repr`."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    server_id: int
    replica: DataSource

    @classmethod
    def from_config(cls, config: object) -> Settings:
        """Raises ConfigError for the first that is missing or malformed."""
        require = config.require  # type: ignore[attr-defined]
        server_id = require(_ID)
        if not 0 < server_id < 1 << 32:
            raise ConfigError(f"{_ID} is {server_id}: a server id is a number from 1 to 4294967295")
        return cls(
            require("WALG_MYSQL_BINLOG_SERVER_HOST"), require("WALG_MYSQL_BINLOG_SERVER_PORT"),
            require("WALG_MYSQL_BINLOG_SERVER_USER"), require("WALG_MYSQL_BINLOG_SERVER_PASSWORD"),
            server_id, parse_dsn(require(_REPLICA), _REPLICA),
        )  # fmt: skip


class BinlogServer:
    """Serves one range of the archive until the replica has it."""

    def __init__(self, context: Context, storage: Storage, chosen: Range) -> None:
        self.context = context
        self.storage = storage
        self.range = chosen
        self.settings = Settings.from_config(context.config)
        self.version, self.checksums = self._description()
        self.finished: dump.Sent | None = None
        self._ids = itertools.count(1)
        self._threads: list[threading.Thread] = []
        self._connections: set[socket.socket] = set()

    def _description(self) -> tuple[str, bool]:
        """Version of the server that wrote the archive, as a replica wants to hear it, and whether it has checksums."""
        for binlog in binlogs_of(self.context, self.storage, self.range):
            source = binlog.open(self.context, self.storage)
            try:
                version, checksums = first_description(source, binlog.name)
            finally:
                source.close()
            # Clients take 10.x for MariaDB only after this prefix; for MySQL the original names one version always.
            return (f"5.5.5-{version}" if "MariaDB" in version else _DEFAULT_VERSION), checksums
        raise EngineError("no archived binlog lies in the range: there is nothing to serve")

    def run(self) -> None:
        """Until the replica has all transactions that were sent. Raises EngineError when it cannot be asked."""
        with socket.create_server((self.settings.host, self.settings.port)) as listening:
            listening.settimeout(_POLL)
            host, port = listening.getsockname()[:2]
            log.info(f"Listening on {host}:{port}, wait connection")
            try:
                while self.finished is None or not self._caught_up(self.finished):
                    self._accept(listening)
            finally:
                for connection in list(self._connections):
                    _shut(connection)
                for thread in self._threads:
                    thread.join(_POLL)
        log.info("the replica has everything that was asked for")

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, peer = listening.accept()
        except TimeoutError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(connection)
        self._threads = [each for each in self._threads if each.is_alive()]
        name = f"{peer[0]}:{peer[1]}"
        thread = threading.Thread(target=self._client, args=(connection, name), name="binlog-client", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _client(self, connection: socket.socket, peer: str) -> None:
        try:
            wire = Wire(connection)
            settings = self.settings
            connection.settimeout(_LOGIN)
            authenticate(wire, self.version, next(self._ids), settings.user, settings.password, peer)
            connection.settimeout(None)
            log.info(f"{peer} has logged in")
            self._commands(wire, Session(self._variables()))
        except (ProtocolError, OSError) as error:
            log.info(f"{peer}: {error}")
        except WalgError as error:
            log.error(f"{peer}: {error}")
        finally:
            self._connections.discard(connection)
            _shut(connection)

    def _variables(self) -> dict[str, str]:
        return {
            "server_id": str(self.settings.server_id), "server_uuid": "0", "gtid_mode": "ON", "version": self.version,
            "binlog_checksum": "CRC32" if self.checksums else "NONE", "rpl_semi_sync_master_enabled": "0",
            "rpl_semi_sync_source_enabled": "0", "gtid_domain_id": "0", "time_zone": "SYSTEM",
            "collation_server": "utf8mb4_general_ci",
        }  # fmt: skip

    def _commands(self, wire: Wire, session: Session) -> None:
        while True:
            payload = wire.read()
            command, body = payload[:1], payload[1:]
            kind = command[0] if command else 0
            if kind == _QUIT:
                return
            if kind == _QUERY:
                session.answer(wire, body.decode("utf-8", "replace"))
            elif kind in (_PING, _INIT_DB, _REGISTER):
                wire.ok()
            elif kind in (_DUMP, _DUMP_GTID):
                self._dump(wire, session, kind, body)
                return
            else:
                wire.error(1105, "HY000", f"command {kind} is not supported now")

    def _dump(self, wire: Wire, session: Session, kind: int, body: bytes) -> None:
        """Send everything; errors are told to the client in a packet, so that it does not just see a dead line."""
        try:
            flags, name, position, after = _parse(kind, body, session)
            checksums = self.checksums and session.own.get("master_binlog_checksum", "CRC32").upper() != "NONE"
            window = Window(after=after, before=self.range.until // SECOND + 1)
            binlogs = binlogs_of(self.context, self.storage, self.range)
            if name and after is None:
                binlogs = _from(binlogs, name)
            sent = dump.Sent()
            request = dump.Request(name, position, checksums)
            for event in dump.events(
                self.context, self.storage, binlogs, request, window, self.settings.server_id, sent
            ):
                wire.write(b"\0" + event)
        except (ProtocolError, OSError):
            raise
        except WalgError as error:
            wire.error(1236, "HY000", str(error))
            raise
        log.info(f"{window.taken} transactions of {window.binlogs} binlogs sent, {window.skipped} skipped")
        if flags & _NON_BLOCKING:
            wire.eof()
            return
        self.finished = sent
        wire.read()

    def _caught_up(self, sent: dump.Sent) -> bool:
        """Ask the replica, a few times if it does not answer. Raises EngineError."""
        for attempt in range(_TRIES):
            try:
                with Server(self.settings.replica, self.context.config.get("WALG_MYSQL_SSL_CA")) as server:
                    return sent.within(server.executed_gtids())
            except ConfigError:
                raise
            except EngineError:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(_PAUSE)
        return False


def _from(binlogs: Iterator[Binlog], name: str) -> Iterator[Binlog]:
    """The binlogs from that of the name on. Raises EngineError when it is not among them."""
    for binlog in binlogs:
        if binlog.name == name:
            return itertools.chain([binlog], binlogs)
    raise EngineError(f"Could not find first log file name in binary log index file: {name} is not in the served range")


def _parse(kind: int, body: bytes, session: Session) -> tuple[int, str, int, GtidSet | None]:
    """Flags, file, byte and the transactions that the client has, of either dump command. Raises ProtocolError.

    Server id 0 is how older `mysqlbinlog`s say that they do not wait for more (MySQL's sql/rpl_master.cc).
    """
    try:
        if kind == _DUMP:
            position, flags, server_id = struct.unpack_from("<IHI", body)
            flags |= 0 if server_id else _NON_BLOCKING
            state = session.own.get("slave_connect_state")
            after: GtidSet | None = None if state is None else MariadbGtidSet.parse(state)
            return flags, "" if after else body[10:].decode(), 4 if after is not None else max(position, 4), after
        flags, server_id, size = struct.unpack_from("<HII", body)
        flags |= 0 if server_id else _NON_BLOCKING
        name = body[10 : 10 + size].decode()
        at = 10 + size
        position, length = struct.unpack_from("<QI", body, at)
        gtids: MysqlGtidSet = decode_gtid_set(body[at + 12 : at + 12 + length])
    except (struct.error, ValueError, WalgError) as error:
        raise ProtocolError(f"the client's dump command is malformed: {error}") from error
    return flags, name, 4, gtids


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("the client's connection was closed already")
    connection.close()
