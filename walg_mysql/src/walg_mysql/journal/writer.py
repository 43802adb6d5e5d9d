"""Making binary log files by the documented layout: for tools and tests of dialects whose servers are not at hand."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from walg_mysql.journal.events import (
    FORMAT_DESCRIPTION,
    GTID,
    HEADER,
    MAGIC,
    MARIADB_GTID,
    MARIADB_GTID_LIST,
    PREVIOUS_GTIDS,
    QUERY,
)
from walg_mysql.journal.gtid import MariadbGtidSet, MysqlGtidSet, encode_gtid_set

_POST_HEADERS = 40


@dataclass(slots=True)
class BinlogWriter:
    """Builds one file in memory; `timestamp` (Unix time, seconds) is that of the events added next."""

    version: str = "8.0.35"
    server_id: int = 1
    timestamp: int = 1_700_000_000
    checksums: bool = True
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 4

    def __post_init__(self) -> None:
        version = self.version.encode().ljust(50, b"\0")
        body = (4).to_bytes(2, "little") + version + self.timestamp.to_bytes(4, "little") + b"\x13"
        self._add(FORMAT_DESCRIPTION, body + bytes(_POST_HEADERS) + bytes([self.checksums]), always=True)

    def _add(self, kind: int, body: bytes, *, always: bool = False) -> None:
        summed = self.checksums or always
        size = HEADER.size + len(body) + (4 if summed else 0)
        self._size += size
        raw = HEADER.pack(self.timestamp, kind, self.server_id, size, self._size, 0) + body
        self._parts.append(raw + (zlib.crc32(raw).to_bytes(4, "little") if summed else b""))

    def previous(self, gtids: MysqlGtidSet | MariadbGtidSet) -> BinlogWriter:
        """What was executed before this file."""
        if isinstance(gtids, MysqlGtidSet):
            self._add(PREVIOUS_GTIDS, encode_gtid_set(gtids))
        else:
            entries = b"".join(
                domain.to_bytes(4, "little") + server.to_bytes(4, "little") + sequence.to_bytes(8, "little")
                for domain, (server, sequence) in gtids.domains.items()
            )
            self._add(MARIADB_GTID_LIST, len(gtids.domains).to_bytes(4, "little") + entries)
        return self

    def transaction(self, uuid: str, number: int, *statements: str) -> BinlogWriter:
        """A MySQL transaction."""
        self._add(GTID, b"\0" + bytes.fromhex(uuid.replace("-", "")) + number.to_bytes(8, "little"))
        return self.queries(*statements)

    def mariadb_transaction(self, domain: int, sequence: int, *statements: str) -> BinlogWriter:
        """A MariaDB transaction of this file's server."""
        self._add(MARIADB_GTID, sequence.to_bytes(8, "little") + domain.to_bytes(4, "little") + b"\0")
        return self.queries(*statements)

    def queries(self, *statements: str) -> BinlogWriter:
        """Query events, as they are."""
        for statement in statements:
            self._add(QUERY, bytes(13) + b"\0" + statement.encode())
        return self

    @property
    def position(self) -> int:
        """The byte at which the next event begins."""
        return self._size

    def data(self) -> bytes:
        """The file."""
        return MAGIC + b"".join(self._parts)
