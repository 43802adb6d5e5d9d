"""The JSON objects of a base backup: sentinel, `metadata.json`, `files_metadata.json` (spec/postgres-backup.md 8).

Times are nanoseconds since the epoch, LSNs are integers. Encoders write the original's key order; decoders accept
keys in any case, skip unknown ones, and read the embedded file lists of older WAL-G.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from walg_core.backups import times
from walg_core.backups.gojson import dumps
from walg_core.errors import IntegrityError

DATE_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
VERSION = 2


class CorruptBlocks(NamedTuple):
    """Pages of one file with wrong checksums: how many, and some (or all) of their numbers within the file."""

    count: int
    some: tuple[int, ...]


class FileRecord(NamedTuple):
    """One file, directory or link of a backup; at most one of the flags is set."""

    incremented: bool = False
    skipped: bool = False
    mtime: int = 0
    corrupt: CorruptBlocks | None = None
    updates: int = 0


@dataclass(slots=True)
class TablespaceSpec:
    """Tablespaces (oid → absolute location) of the cluster whose data directory is `base_prefix` (spec 8.4)."""

    base_prefix: str
    locations: dict[str, str] = field(default_factory=dict)

    def encode(self) -> dict[str, Any]:
        """As JSON values."""
        spec: dict[str, Any] = {
            oid: {"loc": location, "link": f"pg_tblspc/{oid}"} for oid, location in self.locations.items()
        }
        return {**spec, "base_prefix": self.base_prefix, "tablespaces": list(self.locations)}

    @classmethod
    def decode(cls, value: object) -> TablespaceSpec:
        """From JSON values. Raises IntegrityError that names what is missing."""
        if not isinstance(value, Mapping):
            raise IntegrityError("tablespace specification: not a JSON object")
        base = value.get("base_prefix")
        if not isinstance(base, str):
            raise IntegrityError("tablespace specification: 'base_prefix' is missing or is not a string")
        spec = cls(base)
        names = value.get("tablespaces") or []
        if not isinstance(names, list):
            raise IntegrityError("tablespace specification: 'tablespaces' is not a list")
        for name in names:
            place = value.get(name) if isinstance(name, str) else None
            if not isinstance(place, Mapping) or not all(isinstance(place.get(key), str) for key in ("loc", "link")):
                raise IntegrityError(f"tablespace specification: {name!r} has no 'loc' and 'link'")
            if place["link"].strip("/") != f"pg_tblspc/{name}":
                raise IntegrityError(f"tablespace specification: link {place['link']!r} is not pg_tblspc/{name}")
            spec.locations[name] = place["loc"]
        return spec


@dataclass(slots=True, kw_only=True)
class Sentinel:
    """A backup's sentinel. The four delta values are all None for a full backup."""

    lsn: int | None
    delta_lsn: int | None = None
    delta_from: str | None = None
    delta_full_name: str | None = None
    delta_count: int | None = None
    pg_version: int
    finish_lsn: int | None
    system_identifier: int | None = None
    uncompressed_size: int = 0
    compressed_size: int = 0
    data_catalog_size: int = 0
    spec: TablespaceSpec | None = None
    user_data: Any = None
    files_metadata_disabled: bool = False
    checkpoint_number: int | None = None
    delta_checkpoint_number: int | None = None
    version: int = VERSION
    start_time: int = 0
    finish_time: int = 0
    hostname: str = ""
    data_dir: str = ""
    is_permanent: bool = False
    embedded: FilesMetadata | None = None
    """File lists inside the sentinel: only in backups of older WAL-G (no `Version`)."""

    @property
    def is_delta(self) -> bool:
        """Whether it needs another backup."""
        return self.delta_from is not None


def encode_sentinel(sentinel: Sentinel) -> bytes:
    """Compact JSON in the original's key order."""
    s = sentinel
    delta = {
        "DeltaLSN": s.delta_lsn,
        "DeltaFrom": s.delta_from,
        "DeltaFullName": s.delta_full_name,
        "DeltaCount": s.delta_count,
    }
    value: dict[str, Any] = {"LSN": s.lsn}
    value |= {key: each for key, each in delta.items() if each is not None}
    value |= {"PgVersion": s.pg_version, "FinishLSN": s.finish_lsn}
    if s.system_identifier is not None:
        value["SystemIdentifier"] = s.system_identifier
    value |= {"UncompressedSize": s.uncompressed_size, "CompressedSize": s.compressed_size}
    if s.data_catalog_size:
        value["DataCatalogSize"] = s.data_catalog_size
    if s.spec is not None:
        value["Spec"] = s.spec.encode()
    if s.user_data is not None:
        value["UserData"] = s.user_data
    if s.files_metadata_disabled:
        value["FilesMetadataDisabled"] = True
    value["ChkpNum"] = s.checkpoint_number
    if s.delta_checkpoint_number is not None:
        value["DeltaChkpNum"] = s.delta_checkpoint_number
    value |= {
        "Version": s.version,
        "StartTime": times.format_utc(s.start_time, 6),
        "FinishTime": times.format_utc(s.finish_time, 6),
        "DateFmt": DATE_FORMAT,
        "Hostname": s.hostname,
        "DataDir": s.data_dir,
        "IsPermanent": s.is_permanent,
    }
    return dumps(value)


def decode_sentinel(data: bytes, name: str = "sentinel") -> Sentinel:
    """Parse a sentinel. Raises IntegrityError (naming `name`) when it is not one or its delta keys are incomplete."""
    take = _Taker(data, name)
    old_delta_lsn = take.integer("DeltaFromLSN")
    sentinel = Sentinel(
        lsn=take.integer("LSN"),
        delta_lsn=take.integer("DeltaLSN"),
        delta_from=take.text("DeltaFrom"),
        delta_full_name=take.text("DeltaFullName"),
        delta_count=take.integer("DeltaCount"),
        pg_version=take.integer("PgVersion") or 0,
        finish_lsn=take.integer("FinishLSN"),
        system_identifier=take.integer("SystemIdentifier"),
        uncompressed_size=take.integer("UncompressedSize") or 0,
        compressed_size=take.integer("CompressedSize") or 0,
        data_catalog_size=take.integer("DataCatalogSize") or 0,
        user_data=take.get("UserData"),
        files_metadata_disabled=take.truth("FilesMetadataDisabled"),
        checkpoint_number=take.integer("ChkpNum"),
        delta_checkpoint_number=take.integer("DeltaChkpNum"),
        version=take.integer("Version") or 0,
        start_time=take.time("StartTime"),
        finish_time=take.time("FinishTime"),
        hostname=take.text("Hostname") or "",
        data_dir=take.text("DataDir") or "",
        is_permanent=take.truth("IsPermanent"),
    )
    if sentinel.delta_lsn is None:
        sentinel.delta_lsn = old_delta_lsn
    spec = take.get("Spec")
    sentinel.spec = TablespaceSpec.decode(spec) if spec is not None else None
    if take.get("Files") is not None:
        sentinel.embedded = FilesMetadata.from_json(take.values)
    delta = (sentinel.delta_lsn, sentinel.delta_full_name, sentinel.delta_count)
    if sentinel.delta_from is not None and None in delta:
        raise IntegrityError(
            f"{name}: DeltaFrom is present but DeltaLSN, DeltaFullName or DeltaCount is missing",
            hint="the sentinel is damaged; restore another backup, or repair it from a copy",
        )
    return sentinel


@dataclass(slots=True, kw_only=True)
class Metadata:
    """`metadata.json`. Its `is_permanent` is the authoritative one."""

    start_time: int
    finish_time: int
    date_fmt: str = DATE_FORMAT
    hostname: str = ""
    data_dir: str = ""
    pg_version: int = 0
    start_lsn: int = 0
    finish_lsn: int = 0
    is_permanent: bool = False
    system_identifier: int | None = None
    uncompressed_size: int = 0
    compressed_size: int = 0
    user_data: Any = None

    @classmethod
    def of(cls, sentinel: Sentinel) -> Metadata:
        """The metadata that goes with a sentinel being written."""
        s = sentinel
        return cls(
            start_time=s.start_time,
            finish_time=s.finish_time,
            hostname=s.hostname,
            data_dir=s.data_dir,
            pg_version=s.pg_version,
            start_lsn=s.lsn or 0,
            finish_lsn=s.finish_lsn or 0,
            is_permanent=s.is_permanent,
            system_identifier=s.system_identifier,
            uncompressed_size=s.uncompressed_size,
            compressed_size=s.compressed_size,
            user_data=s.user_data,
        )


def encode_metadata(metadata: Metadata) -> bytes:
    """Compact JSON in the original's key order."""
    m = metadata
    value: dict[str, Any] = {
        "start_time": times.format_utc(m.start_time, 6),
        "finish_time": times.format_utc(m.finish_time, 6),
        "date_fmt": m.date_fmt,
        "hostname": m.hostname,
        "data_dir": m.data_dir,
        "pg_version": m.pg_version,
        "start_lsn": m.start_lsn,
        "finish_lsn": m.finish_lsn,
        "is_permanent": m.is_permanent,
        "system_identifier": m.system_identifier,
        "uncompressed_size": m.uncompressed_size,
        "compressed_size": m.compressed_size,
    }
    if m.user_data is not None:
        value["user_data"] = m.user_data
    return dumps(value)


def decode_metadata(data: bytes, name: str = "metadata.json") -> Metadata:
    """Parse `metadata.json`. Raises IntegrityError naming `name`."""
    take = _Taker(data, name)
    return Metadata(
        start_time=take.time("start_time"),
        finish_time=take.time("finish_time"),
        date_fmt=take.text("date_fmt") or DATE_FORMAT,
        hostname=take.text("hostname") or "",
        data_dir=take.text("data_dir") or "",
        pg_version=take.integer("pg_version") or 0,
        start_lsn=take.integer("start_lsn") or 0,
        finish_lsn=take.integer("finish_lsn") or 0,
        is_permanent=take.truth("is_permanent"),
        system_identifier=take.integer("system_identifier"),
        uncompressed_size=take.integer("uncompressed_size") or 0,
        compressed_size=take.integer("compressed_size") or 0,
        user_data=take.get("user_data"),
    )


@dataclass(slots=True)
class FilesMetadata:
    """`files_metadata.json`: names equal the tar headers' names byte for byte.

    Bytes that are not UTF-8 are lone surrogates in a name (`os.fsdecode`) and `\\udcXX` escapes in the JSON, which
    the original reads as replacement characters and this program reads back exactly. `databases` is the JSON value
    of `DatabasesByNames`.
    """

    files: dict[str, FileRecord] = field(default_factory=dict)
    tar_sets: dict[str, list[str]] = field(default_factory=dict)
    databases: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FilesMetadata:
        """From decoded JSON whose keys are lower-cased at the top level."""
        files = values.get("files") or {}
        records = {k: v if isinstance(v, FileRecord) else _record(v) for k, v in files.items()}
        return cls(records, dict(values.get("tarfilesets") or {}), dict(values.get("databasesbynames") or {}))

    def encode(self) -> Iterator[bytes]:
        """The JSON in pieces of moderate size, so that a list of a million files is never one string."""
        mark = b"{"
        for key, body in (
            ("Files", _encode_files(self.files)),
            ("TarFileSets", _encode_members(self.tar_sets)),
            ("DatabasesByNames", _encode_members(self.databases)),
        ):
            first = next(body, None)
            if first is not None:
                yield mark + f'"{key}":{{'.encode() + first
                yield from body
                yield b"}"
                mark = b","
        yield b"{}" if mark == b"{" else b"}"


def decode_files_metadata(data: bytes, name: str = "files_metadata.json") -> FilesMetadata:
    """Parse `files_metadata.json`; descriptions become records while parsing. Raises IntegrityError naming `name`."""
    return FilesMetadata.from_json(_Taker(data, name, _shrink).values)


_QUOTE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _bytes(text: str) -> bytes:
    # Lone surrogates become the six characters \udcXX: valid JSON that reads back as the same lone surrogate.
    return text.encode("utf-8", "backslashreplace")


def _encode_files(files: Mapping[str, FileRecord]) -> Iterator[bytes]:
    parts: list[str] = []
    mark = ""
    for name, record in files.items():
        corrupt = ""
        if record.corrupt:
            some = ",".join(map(str, record.corrupt.some))
            corrupt = f',"CorruptBlocks":{{"CorruptBlocksCount":{record.corrupt.count},"SomeCorruptBlocks":[{some}]}}'
        parts.append(
            f'{mark}{_QUOTE(name)}:{{"IsIncremented":{"true" if record.incremented else "false"},'
            f'"IsSkipped":{"true" if record.skipped else "false"},'
            f'"MTime":"{times.format_local(record.mtime)}"{corrupt},"UpdatesCount":{record.updates}}}'
        )
        mark = ","
        if len(parts) == 2000:
            yield _bytes("".join(parts))
            parts.clear()
    if parts:
        yield _bytes("".join(parts))


def _encode_members(members: Mapping[str, Any]) -> Iterator[bytes]:
    mark = ""
    for name, value in members.items():
        yield _bytes(f"{mark}{_QUOTE(name)}:{_QUOTE(value)}")
        mark = ","


def _record(value: Mapping[str, Any]) -> FileRecord:
    lower = {key.lower(): each for key, each in value.items()}
    corrupt = lower.get("corruptblocks")
    if corrupt:
        inner = {key.lower(): each for key, each in corrupt.items()}
        corrupt = CorruptBlocks(int(inner.get("corruptblockscount") or 0), tuple(inner.get("somecorruptblocks") or ()))
    stamp = lower.get("mtime")
    return FileRecord(
        bool(lower.get("isincremented")),
        bool(lower.get("isskipped")),
        times.parse(stamp) if stamp else 0,
        corrupt or None,
        int(lower.get("updatescount") or 0),
    )


def _shrink(value: dict[str, Any]) -> Any:
    return _record(value) if "MTime" in value else value


class _Taker:
    """Looks up values whatever the case of their keys, with errors that name the object and the key."""

    def __init__(self, data: bytes, name: str, hook: Any = None) -> None:
        self.name = name
        try:
            values = json.loads(data, object_hook=hook)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError(f"{name} is not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise IntegrityError(f"{name} is not a JSON object")
        self.values = {key.lower(): value for key, value in values.items()}

    def get(self, key: str) -> Any:
        return self.values.get(key.lower())

    def integer(self, key: str) -> int | None:
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise IntegrityError(f"{self.name}: {key} is not an integer")
        return value

    def text(self, key: str) -> str | None:
        value = self.get(key)
        if value is None or isinstance(value, str):
            return value
        raise IntegrityError(f"{self.name}: {key} is not a string")

    def truth(self, key: str) -> bool:
        value = self.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise IntegrityError(f"{self.name}: {key} is not true or false")

    def time(self, key: str) -> int:
        text = self.text(key)
        try:
            return times.parse(text) if text else 0
        except ValueError as error:
            raise IntegrityError(f"{self.name}: {key} is not a time: {text!r}") from error
