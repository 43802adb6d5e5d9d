"""The three metadata objects of a backup: sentinel, `metadata.json`, `files_metadata.json` (spec/postgres-backup.md 8).

Reading accepts what every WAL-G wrote: keys in any case, unknown keys, WAL-E's `spec`, and the file list that old
versions kept inside the sentinel. Writing keeps the original's key order and its rules of omission.

Bytes of a file name that are not UTF-8 are lone surrogates in a name (`os.fsdecode`) and `\\udcXX` escapes in the
JSON: the original reads them as replacement characters, this program reads the very same name back.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from walg_core.backups import times
from walg_core.backups.gojson import dumps
from walg_core.errors import IntegrityError

from walg_pg.names import FILES_METADATA_NAME, METADATA_NAME

DATE_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
VERSION = 2


class FileEntry(NamedTuple):
    """One row of `Files`. `mtime` is RFC 3339 text with nanoseconds as stored, "" when absent.

    `corrupt` is None, or (count, the block numbers that are known).
    """

    incremented: bool = False
    skipped: bool = False
    mtime: str = ""
    updates: int = 0
    corrupt: tuple[int, tuple[int, ...]] | None = None


@dataclass(slots=True)
class FilesMetadata:
    """File list of one backup. Names equal the tar members' names.

    `tar_sets`: object base name → member names; empty when unknown. `databases`: the raw `DatabasesByNames`.
    """

    files: dict[str, FileEntry] = field(default_factory=dict)
    tar_sets: dict[str, list[str]] = field(default_factory=dict)
    databases: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Sentinel:
    """The sentinel. LSNs and sizes (bytes) are integers, times RFC 3339 text as stored.

    `embedded` is the file list of WAL-G versions that kept it here, None otherwise.
    """

    start_lsn: int | None = None
    delta_lsn: int | None = None
    delta_from: str | None = None
    delta_full_name: str | None = None
    delta_count: int | None = None
    pg_version: int = 0
    finish_lsn: int | None = None
    system_identifier: int | None = None
    uncompressed_size: int = 0
    compressed_size: int = 0
    data_catalog_size: int = 0
    spec: dict[str, Any] | None = None
    user_data: Any = None
    files_metadata_disabled: bool = False
    checkpoint_number: int | None = None
    delta_checkpoint_number: int | None = None
    version: int = VERSION
    start_time: str = ""
    finish_time: str = ""
    date_format: str = DATE_FORMAT
    hostname: str = ""
    data_dir: str = ""
    is_permanent: bool = False
    embedded: FilesMetadata | None = None

    @property
    def is_delta(self) -> bool:
        """Whether the backup needs a base."""
        return self.delta_from is not None


@dataclass(slots=True)
class BackupMetadata:
    """`metadata.json`; `is_permanent` here is the authoritative flag. Times are RFC 3339 text as stored."""

    start_time: str = ""
    finish_time: str = ""
    date_format: str = DATE_FORMAT
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


class _Fields:
    """Typed access to a JSON object with keys in any case."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = {key.lower(): value for key, value in values.items()}
        self._where = where

    def raw(self, *keys: str) -> Any:
        for key in keys:
            value = self._values.get(key.lower())
            if value is not None:
                return value
        return None

    def _typed(self, kind: type, keys: tuple[str, ...]) -> Any:
        value = self.raw(*keys)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise IntegrityError(f"{self._where}: {keys[0]} must be {_WORDS[kind]} but is {str(value)[:60]!r}")
        return value

    def number(self, *keys: str) -> int | None:
        value: int | None = self._typed(int, keys)
        if value is not None and not -(1 << 63) <= value < 1 << 64:
            raise IntegrityError(f"{self._where}: {keys[0]} is out of range")
        return value

    def text(self, *keys: str) -> str:
        return str(self._typed(str, keys) or "")

    def optional_text(self, *keys: str) -> str | None:
        value: str | None = self._typed(str, keys)
        return value or None

    def flag(self, *keys: str) -> bool:
        return bool(self._typed(bool, keys))

    def mapping(self, *keys: str) -> dict[str, Any] | None:
        value: dict[str, Any] | None = self._typed(dict, keys)
        return value

    def __contains__(self, key: str) -> bool:
        return self._values.get(key.lower()) is not None


_WORDS = {int: "an integer", str: "text", bool: "true or false", dict: "an object", list: "a list"}


def load_object(data: bytes | str, where: str, hook: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any]:
    """A JSON object; IntegrityError, naming `where`, for everything else (nesting and number bombs included).

    `hook` may replace inner objects as soon as they are read.
    """
    try:
        value = json.loads(data, object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{where} is not a JSON object")
    return value


def read_sentinel(data: bytes, where: str = "the sentinel") -> Sentinel:
    """The sentinel's content; raises IntegrityError (`where` names the object)."""
    fields = _Fields(load_object(data, where), where)
    sentinel = Sentinel(
        start_lsn=fields.number("LSN"),
        delta_lsn=fields.number("DeltaLSN", "DeltaFromLSN"),
        delta_from=fields.optional_text("DeltaFrom"),
        delta_full_name=fields.optional_text("DeltaFullName"),
        delta_count=fields.number("DeltaCount"),
        pg_version=fields.number("PgVersion") or 0,
        finish_lsn=fields.number("FinishLSN"),
        system_identifier=fields.number("SystemIdentifier"),
        uncompressed_size=fields.number("UncompressedSize") or 0,
        compressed_size=fields.number("CompressedSize") or 0,
        data_catalog_size=fields.number("DataCatalogSize") or 0,
        spec=fields.mapping("Spec"),
        user_data=fields.raw("UserData"),
        files_metadata_disabled=fields.flag("FilesMetadataDisabled"),
        checkpoint_number=fields.number("ChkpNum"),
        delta_checkpoint_number=fields.number("DeltaChkpNum"),
        version=fields.number("Version") or 0,
        start_time=fields.text("StartTime"),
        finish_time=fields.text("FinishTime"),
        date_format=fields.text("DateFmt"),
        hostname=fields.text("Hostname"),
        data_dir=fields.text("DataDir"),
        is_permanent=fields.flag("IsPermanent"),
    )
    if sentinel.delta_from and None in (sentinel.delta_lsn, sentinel.delta_full_name, sentinel.delta_count):
        raise IntegrityError(f"{where} has DeltaFrom but not all of DeltaLSN, DeltaFullName and DeltaCount")
    if "Files" in fields:
        sentinel.embedded = _files_metadata(fields, where)
    return sentinel


def read_metadata(data: bytes, where: str = METADATA_NAME) -> BackupMetadata:
    """`metadata.json`; raises IntegrityError."""
    fields = _Fields(load_object(data, where), where)
    return BackupMetadata(
        start_time=fields.text("start_time"),
        finish_time=fields.text("finish_time"),
        date_format=fields.text("date_fmt"),
        hostname=fields.text("hostname"),
        data_dir=fields.text("data_dir"),
        pg_version=fields.number("pg_version") or 0,
        start_lsn=fields.number("start_lsn") or 0,
        finish_lsn=fields.number("finish_lsn") or 0,
        is_permanent=fields.flag("is_permanent"),
        system_identifier=fields.number("system_identifier"),
        uncompressed_size=fields.number("uncompressed_size") or 0,
        compressed_size=fields.number("compressed_size") or 0,
        user_data=fields.raw("user_data"),
    )


def read_files_metadata(data: bytes | str, where: str = FILES_METADATA_NAME) -> FilesMetadata:
    """`files_metadata.json`; raises IntegrityError. With a million files it matters that rows are small at once."""
    return _files_metadata(_Fields(load_object(data, where, _compact), where), where)


Known = FileEntry | bytes
"""What a delta asks of its base's row: all of it, or just the time (`packed_time`) where no tuples are counted."""


def read_known_files(data: bytes | str, where: str = FILES_METADATA_NAME) -> dict[str, Known]:
    """The rows of `Files` for a delta, which has them all in memory; raises IntegrityError."""
    return dict_of_known(_files_metadata(_Fields(load_object(data, where, _known), where), where))


def dict_of_known(metadata: FilesMetadata) -> dict[str, Known]:
    """Its rows as a delta takes them."""
    rows: dict[str, Any] = metadata.files
    return rows


def packed_time(ns: int) -> bytes:
    """A time in nanoseconds in eight bytes; raises OverflowError before 1677 and after 2262."""
    return ns.to_bytes(8, "little", signed=True)


def _known(row: dict[str, Any]) -> Any:
    entry = _compact(row)
    if isinstance(entry, FileEntry) and not entry.updates:
        try:
            return packed_time(times.parse(entry.mtime))
        except (ValueError, OverflowError):
            return entry
    return entry


_ROW = {"IsIncremented", "IsSkipped", "MTime", "UpdatesCount"}


def _compact(row: dict[str, Any]) -> Any:
    """A usual row of `Files` as an entry; any other object as it is."""
    if row.keys() == _ROW:
        incremented, skipped = row["IsIncremented"], row["IsSkipped"]
        mtime, updates = row["MTime"], row["UpdatesCount"]
        flags = isinstance(incremented, bool) and isinstance(skipped, bool)
        if flags and isinstance(mtime, str) and isinstance(updates, int):
            return FileEntry(incremented, skipped, mtime, updates)
    return row


def _files_metadata(fields: _Fields, where: str) -> FilesMetadata:
    files = fields.mapping("Files") or {}
    for name, row in files.items():
        # In place: a second dictionary of that many rows would have to fit beside the first.
        files[name] = _file_entry(name, row, where)
    tar_sets = fields.mapping("TarFileSets") or {}
    for name, members in tar_sets.items():
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise IntegrityError(f"{where}: TarFileSets[{name!r}] must be a list of names")
    databases = fields.mapping("DatabasesByNames") or {}
    if not all(isinstance(row, dict) for row in databases.values()):
        raise IntegrityError(f"{where}: DatabasesByNames must hold objects")
    return FilesMetadata(files, tar_sets, databases)


def _file_entry(name: str, row: Any, where: str) -> Any:
    if isinstance(row, Known):
        return row
    if not isinstance(row, dict):
        raise IntegrityError(f"{where}: Files[{name!r}] must be an object")
    get = row.get
    incremented, skipped, mtime = get("IsIncremented"), get("IsSkipped"), get("MTime")
    if incremented is None or skipped is None or mtime is None:
        fields = _Fields(row, f"{where}: Files[{name!r}]")
        incremented, skipped = fields.flag("IsIncremented"), fields.flag("IsSkipped")
        mtime = fields.text("MTime")
    updates, corrupt = get("UpdatesCount") or 0, get("CorruptBlocks")
    if not (isinstance(incremented, bool) and isinstance(skipped, bool) and isinstance(mtime, str)):
        raise IntegrityError(f"{where}: Files[{name!r}] has values of wrong types")
    if not isinstance(updates, int):
        raise IntegrityError(f"{where}: Files[{name!r}] has values of wrong types")
    return FileEntry(incremented, skipped, mtime, updates, _corrupt_blocks(corrupt) if corrupt else None)


def _corrupt_blocks(row: Any) -> tuple[int, tuple[int, ...]] | None:
    if not isinstance(row, dict):
        return None
    blocks = row.get("SomeCorruptBlocks") or []
    return int(row.get("CorruptBlocksCount") or 0), tuple(int(block) for block in blocks)


def write_sentinel(sentinel: Sentinel) -> bytes:
    """The sentinel as compact JSON. `embedded` is never written."""
    s = sentinel
    value: dict[str, Any] = {"LSN": s.start_lsn}
    delta = (
        ("DeltaLSN", s.delta_lsn),
        ("DeltaFrom", s.delta_from),
        ("DeltaFullName", s.delta_full_name),
        ("DeltaCount", s.delta_count),
    )
    value |= {key: each for key, each in delta if each is not None}
    value |= {"PgVersion": s.pg_version, "FinishLSN": s.finish_lsn}
    if s.system_identifier is not None:
        value["SystemIdentifier"] = s.system_identifier
    value |= {"UncompressedSize": s.uncompressed_size, "CompressedSize": s.compressed_size}
    optional = (
        ("DataCatalogSize", s.data_catalog_size or None),
        ("Spec", s.spec),
        ("UserData", s.user_data),
        ("FilesMetadataDisabled", s.files_metadata_disabled or None),
    )
    value |= {key: each for key, each in optional if each is not None}
    value["ChkpNum"] = s.checkpoint_number
    if s.delta_checkpoint_number is not None:
        value["DeltaChkpNum"] = s.delta_checkpoint_number
    value |= {
        "Version": s.version,
        "StartTime": s.start_time,
        "FinishTime": s.finish_time,
        "DateFmt": s.date_format,
        "Hostname": s.hostname,
        "DataDir": s.data_dir,
        "IsPermanent": s.is_permanent,
    }
    return dumps(value)


def metadata_of(sentinel: Sentinel) -> BackupMetadata:
    """The `metadata.json` that goes with a sentinel that is being written."""
    s = sentinel
    return BackupMetadata(
        start_time=s.start_time,
        finish_time=s.finish_time,
        date_format=s.date_format,
        hostname=s.hostname,
        data_dir=s.data_dir,
        pg_version=s.pg_version,
        start_lsn=s.start_lsn or 0,
        finish_lsn=s.finish_lsn or 0,
        is_permanent=s.is_permanent,
        system_identifier=s.system_identifier,
        uncompressed_size=s.uncompressed_size,
        compressed_size=s.compressed_size,
        user_data=s.user_data,
    )


def write_metadata(metadata: BackupMetadata) -> bytes:
    """`metadata.json` as compact JSON."""
    m = metadata
    value: dict[str, Any] = {
        "start_time": m.start_time,
        "finish_time": m.finish_time,
        "date_fmt": m.date_format,
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


def files_metadata_pieces(metadata: FilesMetadata) -> Iterator[bytes]:
    """`files_metadata.json` in pieces of moderate size: a list of a million files is never one string."""
    sets = ((part, iter((names_text(names),))) for part, names in metadata.tar_sets.items())
    return pieces_of_list(_batches(metadata.files), sets, metadata.databases)


def _batches(files: Mapping[str, FileEntry]) -> Iterator[bytes]:
    rows, mark = iter(files.items()), b""
    while batch := list(itertools.islice(rows, 2000)):
        yield mark + file_rows(batch)
        mark = b","


def pieces_of_list(
    files: Iterator[bytes], tar_sets: Iterable[tuple[str, Iterator[bytes]]], databases: Mapping[str, Any]
) -> Iterator[bytes]:
    """`files_metadata.json` of rendered rows (`file_rows`) and names (`names_text`), commas between them included."""
    mark = b"{"
    for key, body in (
        ("Files", files),
        ("TarFileSets", _lists(tar_sets)),
        ("DatabasesByNames", _rows(databases)),
    ):
        first = next(body, None)
        if first is not None:
            yield mark + f'"{key}":{{'.encode() + first
            yield from body
            yield b"}"
            mark = b","
    yield b"{}" if mark == b"{" else b"}"


_quote = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _escaped(text: str) -> bytes:
    # "backslashreplace" turns a lone surrogate into the six characters \udcXX, which is the JSON escape of it.
    return text.encode("utf-8", "backslashreplace")


def names_text(names: list[str]) -> bytes:
    """The inside of a JSON list."""
    return _escaped(_quote(names)[1:-1])


def file_rows(files: Iterable[tuple[str, FileEntry]]) -> bytes:
    """Rows of `Files`, commas between them."""
    parts: list[str] = []
    for name, (incremented, skipped, mtime, updates, corrupt) in files:
        blocks = ""
        if corrupt:
            some = ",".join(map(str, corrupt[1]))
            blocks = f',"CorruptBlocks":{{"CorruptBlocksCount":{corrupt[0]},"SomeCorruptBlocks":[{some}]}}'
        parts.append(
            f'{_quote(name)}:{{"IsIncremented":{"true" if incremented else "false"},'
            f'"IsSkipped":{"true" if skipped else "false"},"MTime":"{mtime}"{blocks},"UpdatesCount":{updates}}}'
        )
    return _escaped(",".join(parts))


def _lists(lists: Iterable[tuple[str, Iterator[bytes]]]) -> Iterator[bytes]:
    mark = ""
    for name, body in lists:
        yield _escaped(f"{mark}{_quote(name)}:[")
        yield from filter(None, body)
        yield b"]"
        mark = ","


def _rows(members: Mapping[str, Any]) -> Iterator[bytes]:
    mark = ""
    for name, value in members.items():
        yield _escaped(f"{mark}{_quote(name)}:{_quote(value)}")
        mark = ","
