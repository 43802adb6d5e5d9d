"""Reading binary log files, event by event (spec/mysql.md 7.9; MySQL's and MariaDB's documented binlog format).

All integers are little-endian. A file is the magic and then events; each has a header of 19 bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import Reader, read_exactly

from walg_mysql.journal.gtid import GtidSet, decode_gtid_list, decode_previous_gtids

MAGIC = b"\xfebin"
ENCRYPTED_MAGIC = b"\xfdbin"
HEADER = struct.Struct("<IBIIIH")
MAX_EVENT = 1 << 30
"""No server writes a larger event (`max_allowed_packet` ends at 1 GiB)."""

QUERY, STOP, ROTATE, FORMAT_DESCRIPTION, INCIDENT = 2, 3, 4, 15, 26
GTID, ANONYMOUS_GTID, PREVIOUS_GTIDS, GTID_TAGGED = 33, 34, 35, 42
MARIADB_GTID, MARIADB_GTID_LIST, MARIADB_START_ENCRYPTION = 162, 163, 164


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `raw` is the whole event with header and checksum; `body` has neither; `end` is its end position."""

    timestamp: int
    kind: int
    server_id: int
    end: int
    flags: int
    raw: bytes
    checksum: bool

    @property
    def body(self) -> bytes:
        return self.raw[HEADER.size : len(self.raw) - 4 if self.checksum else len(self.raw)]


def read_events(source: Reader, name: str = "binlog", *, verify: bool = True) -> Iterator[Event]:
    """The events of one file, in order.

    With `verify` the CRC32 of each event is checked where the file has them. A file whose last event is cut (the
    server still writes it, or it crashed) raises IntegrityError, as do damage and a wrong magic.
    """
    magic = read_exactly(source, 4)
    if magic == ENCRYPTED_MAGIC:
        raise IntegrityError(f"{name} is encrypted by the server, which wal-g cannot read")
    if magic != MAGIC:
        raise IntegrityError(f"{name} is not a binary log: it begins with {magic.hex()} instead of {MAGIC.hex()}")
    checksums = False
    position = 4
    while header := read_exactly(source, HEADER.size):
        if len(header) < HEADER.size:
            raise IntegrityError(f"{name} is cut inside the event header at position {position}")
        timestamp, kind, server_id, size, end, flags = HEADER.unpack(header)
        if not HEADER.size <= size <= MAX_EVENT:
            raise IntegrityError(f"{name} is damaged: the event at position {position} claims {size} bytes")
        raw = header + read_exactly(source, size - HEADER.size)
        if len(raw) < size:
            raise IntegrityError(f"{name} is cut inside the event at position {position}")
        if kind == FORMAT_DESCRIPTION:
            checksums = _has_checksums(raw)
        if (
            checksums
            and verify
            and zlib.crc32(_without_in_use_flag(raw, kind)[:-4]) != int.from_bytes(raw[-4:], "little")
        ):
            raise IntegrityError(f"{name} is damaged: the checksum of the event at position {position} does not match")
        yield Event(timestamp, kind, server_id, end, flags, raw, checksums)
        position += size


def _without_in_use_flag(raw: bytes, kind: int) -> bytes:
    """A server sets bit 0 of the format description's flags while it writes the file, after computing the checksum."""
    return raw[:17] + bytes([raw[17] & 0xFE]) + raw[18:] if kind == FORMAT_DESCRIPTION else raw


def _has_checksums(raw: bytes) -> bool:
    """Whether the format description announces CRC32 (MySQL >= 5.6.1, MariaDB >= 5.3.0)."""
    if len(raw) < HEADER.size + 57 + 5:
        return False
    version = raw[HEADER.size + 2 : HEADER.size + 52].split(b"\0")[0].decode("latin-1")
    numbers = []
    for part in version.split("-")[0].split(".")[:3]:
        digits = "".join(c for c in part if c in "0123456789")
        numbers.append(int(digits or 0))
    minimum = [5, 3, 0] if "MariaDB" in version else [5, 6, 1]
    return numbers >= minimum and raw[-5] == 1


def server_version(event: Event) -> str:
    """The server's version text in a format description event."""
    return event.raw[HEADER.size + 2 : HEADER.size + 52].split(b"\0")[0].decode("latin-1")


def first_description(source: Reader, name: str = "binlog") -> tuple[str, bool]:
    """Version of the server that wrote a file, and whether its events carry checksums. Raises IntegrityError."""
    for event in read_events(source, name, verify=False):
        if event.kind == FORMAT_DESCRIPTION:
            return server_version(event), event.checksum
    raise IntegrityError(f"{name} has no format description event")


def first_timestamp(source: Reader, name: str = "binlog") -> int:
    """Unix time of the first event of a file: its "start timestamp"."""
    for event in read_events(source, name, verify=False):
        return event.timestamp
    raise IntegrityError(f"{name} has no event")


def previous_gtids(source: Reader, name: str = "binlog") -> GtidSet | None:
    """What was executed before this file: previous-GTIDs (MySQL) or GTID list (MariaDB); None when it has neither.

    Reads no further than the first data event.
    """
    for event in read_events(source, name, verify=False):
        if event.kind == PREVIOUS_GTIDS:
            return decode_previous_gtids(event.body)
        if event.kind == MARIADB_GTID_LIST:
            return decode_gtid_list(event.body)
        if event.kind in (GTID, ANONYMOUS_GTID, GTID_TAGGED, MARIADB_GTID, QUERY):
            return None
    return None


def mysql_gtid(event: Event) -> tuple[str, int] | None:
    """`(uuid, number)` of a GTID event; None for tagged ones, whose body has another form."""
    if event.kind != GTID or len(event.body) < 25:
        return None
    raw = event.body[1:17].hex()
    uuid = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
    return uuid, int.from_bytes(event.body[17:25], "little")


def mariadb_gtid(event: Event) -> tuple[int, int, int] | None:
    """`(domain, server, sequence)` of a MariaDB GTID event."""
    if event.kind != MARIADB_GTID or len(event.body) < 13:
        return None
    sequence = int.from_bytes(event.body[:8], "little")
    return int.from_bytes(event.body[8:12], "little"), event.server_id, sequence
