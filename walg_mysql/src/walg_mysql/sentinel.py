"""The sentinel of a MySQL or MariaDB backup (spec/mysql.md 5): a tolerant reader, a writer exact to the byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from walg_core.backups import gojson, times
from walg_core.backups.sentinels import Document, SentinelForm

FORM = SentinelForm(
    finish="StopLocalTime",
    plain_size="UncompressedSize",
    stored_size="CompressedSize",
    parent="DeltaFrom",
    base="DeltaFullName",
)
XTRABACKUP = "WALG_XTRABACKUP_TOOL"
UNSPECIFIED = "WALG_UNSPECIFIED_STREAM_BACKUP_TOOL"


@dataclass(frozen=True, slots=True)
class Sentinel:
    """What a sentinel says. Times in nanoseconds since the epoch, sizes in bytes; LSNs None when unknown.

    `server_version` and `server_uuid` of sentinels written by the original may be damaged (spec/mysql.md 5).
    `delta_count` None means that the key is absent, as in old backups.
    """

    tool: str = UNSPECIFIED
    binlog_start: str = ""
    binlog_end: str = ""
    start_ns: int = times.ZERO
    stop_ns: int = times.ZERO
    plain_size: int = 0
    stored_size: int = 0
    hostname: str = ""
    server_uuid: str = ""
    server_version: str = ""
    server_arch: str = ""
    server_os: str = ""
    permanent: bool = False
    incremental: bool = False
    user_data: Any = None
    lsn: int | None = None
    delta_lsn: int | None = None
    delta_from: str = ""
    delta_full_name: str = ""
    delta_count: int | None = None

    @classmethod
    def decode(cls, data: bytes, key: str = "sentinel") -> Sentinel:
        """From the stored JSON. Raises IntegrityError naming the object `key` when it is not one JSON object."""
        return cls.of(Document.parse(data, key))

    @classmethod
    def of(cls, document: Document) -> Sentinel:
        """From a parsed document; what is missing or of a wrong type counts as absent."""

        def time(name: str) -> int:
            found = document.time(name)
            return times.ZERO if found is None else found

        return cls(
            tool=document.text("Tool") or UNSPECIFIED,
            binlog_start=document.text("BinLogStart"),
            binlog_end=document.text("BinLogEnd"),
            start_ns=time("StartLocalTime"),
            stop_ns=time("StopLocalTime"),
            plain_size=document.number("UncompressedSize"),
            stored_size=document.number("CompressedSize"),
            hostname=document.text("Hostname"),
            server_uuid=document.text("ServerUUID"),
            server_version=document.text("ServerVersion"),
            server_arch=document.text("ServerArch"),
            server_os=document.text("ServerOS"),
            permanent=document.flag("IsPermanent"),
            incremental=document.flag("IsIncremental"),
            user_data=document.get("UserData"),
            lsn=_optional(document, "LSN"),
            delta_lsn=_optional(document, "DeltaLSN"),
            delta_from=document.text("DeltaFrom"),
            delta_full_name=document.text("DeltaFullName"),
            delta_count=_optional(document, "DeltaCount"),
        )

    def values(self) -> dict[str, Any]:
        """The keys in the original's order; empty ones left out where the original does."""
        user_data = None if self.user_data is None else gojson.user_data(self.user_data)
        pairs: tuple[tuple[str, Any, bool], ...] = (
            ("Tool", self.tool, False),
            ("BinLogStart", self.binlog_start, False),
            ("BinLogEnd", self.binlog_end, False),
            ("StartLocalTime", _time(self.start_ns), True),
            ("StopLocalTime", _time(self.stop_ns), True),
            ("UncompressedSize", self.plain_size, False),
            ("CompressedSize", self.stored_size, False),
            ("Hostname", self.hostname, False),
            ("ServerUUID", self.server_uuid, False),
            ("ServerVersion", self.server_version, False),
            ("ServerArch", self.server_arch, False),
            ("ServerOS", self.server_os, False),
            ("IsPermanent", self.permanent, True),
            ("IsIncremental", self.incremental, True),
            ("UserData", user_data, user_data is not None),
            ("LSN", self.lsn, True),
            ("DeltaLSN", self.delta_lsn, self.delta_lsn is not None),
            ("DeltaFrom", self.delta_from, False),
            ("DeltaFullName", self.delta_full_name, False),
            ("DeltaCount", self.delta_count, self.delta_count is not None),
        )
        return {key: value for key, value, always in pairs if always or value}

    def encode(self) -> bytes:
        """The object as it is stored."""
        return gojson.dumps(self.values())


def _optional(document: Document, name: str) -> int | None:
    return None if document.get(name) is None else document.number(name)


def _time(ns: int) -> str:
    return times.format_utc(ns) if ns == times.ZERO else times.format_local(ns)
