"""Reading pgBackRest repositories: listing and full backups (spec/postgres-backup.md 15.4)."""

from __future__ import annotations

import configparser
import json
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from walg_core.backups import table, times
from walg_core.backups.catalog import NoBackups
from walg_core.backups.gojson import dumps
from walg_core.errors import EngineError, IntegrityError
from walg_core.io.destination import Destination, components, write_all

from walg_pg.lsn import format_lsn, parse_lsn
from walg_pg.restore.checks import refuse_non_empty
from walg_pg.restore.source import extension

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

LATEST = "LATEST"
_LIMIT = 1 << 28


@dataclass(frozen=True, slots=True)
class StanzaBackup:
    """One row of `backup:current`; `stopped` in Unix seconds."""

    label: str
    stopped: int
    archive_start: str


class Stanza:
    """One stanza of the repository at the root of a storage."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage = storage
        self.folder = f"backup/{name}/"

    def _parse(self, key: str) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(
            delimiters=("=",), comment_prefixes=(), interpolation=None, strict=False, empty_lines_in_values=False
        )
        parser.optionxform = lambda option: option  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(self.storage.get(key, _LIMIT).decode())
        except (configparser.Error, UnicodeDecodeError) as error:
            raise IntegrityError(f"'{key}' is not a file of pgBackRest: {error}") from error
        return parser

    def backups(self) -> list[StanzaBackup]:
        """By stop time, oldest first. Raises StorageError, IntegrityError."""
        info = self._parse(self.folder + "backup.info")
        if not info.has_section("backup:current"):
            return []
        found = []
        for label, text in info.items("backup:current"):
            row = _json(text, label)
            start = row.get("backup-archive-start")
            found.append(StanzaBackup(label, int(row.get("backup-timestamp-stop") or 0), str(start or "Z" * 24)))
        return sorted(found, key=lambda backup: backup.stopped)

    def find(self, name: str) -> StanzaBackup:
        """A backup by label, or the newest for `LATEST`. Raises NoBackups."""
        found = self.backups()
        for backup in reversed(found):
            if name in (LATEST, backup.label):
                return backup
        raise NoBackups(f"pgBackRest backup '{name}' does not exist", hint="`wal-g pgbackrest backup-list` shows them")

    def manifest(self, label: str) -> Manifest:
        """Raises StorageError, IntegrityError."""
        return Manifest(self._parse(f"{self.folder}{label}/backup.manifest"), label)


class Manifest:
    """`backup.manifest`: what the backup is, and its directories with their modes."""

    def __init__(self, parser: configparser.ConfigParser, label: str) -> None:
        self._parser = parser
        self.label = label
        self.kind = str(self._value("backup", "backup-type") or "")
        self.start_lsn = parse_lsn(str(self._value("backup", "backup-lsn-start") or "0/0"))
        self.finish_lsn = parse_lsn(str(self._value("backup", "backup-lsn-stop") or "0/0"))
        self.started = int(self._value("backup", "backup-timestamp-start") or 0)
        self.stopped = int(self._value("backup", "backup-timestamp-stop") or 0)
        self.version = str(self._value("backup:db", "db-version") or "")
        self.system_identifier = int(self._value("backup:db", "db-system-id") or 0)
        self.file_mode = self._mode("target:file:default", 0o600)
        self.directory_mode = self._mode("target:path:default", 0o700)

    def _value(self, section: str, key: str) -> Any:
        text = self._parser.get(section, key, fallback=None)
        return None if text is None else _json(text, f"{section}/{key}", whole=False)

    def _mode(self, section: str, default: int) -> int:
        text = self._value(section, "mode")
        return int(str(text), 8) if text else default

    def directories(self) -> list[str]:
        """Keys of `target:path`: `pg_data/…`."""
        return list(self._parser["target:path"]) if self._parser.has_section("target:path") else []


def _json(text: str, where: str, *, whole: bool = True) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"pgBackRest: {where} is not JSON") from error
    if whole and not isinstance(value, dict):
        raise IntegrityError(f"pgBackRest: {where} is not an object")
    return value


def fetch(context: Context, stanza: Stanza, destination: str, name: str) -> str:
    """Restore a full backup into an empty or missing directory; returns its label. Raises WalgError."""
    backup = stanza.find(name)
    manifest = stanza.manifest(backup.label)
    if manifest.kind != "full":
        raise EngineError(
            f"{backup.label} is a {manifest.kind or 'strange'} backup: only full ones can be restored",
            hint="use pgbackrest itself, or name a full backup",
        )
    prefix = f"{stanza.folder}{backup.label}/pg_data/"
    control = None
    with Destination(destination) as root:
        refuse_non_empty(root)
        for directory in manifest.directories():
            inner = components(directory)
            if inner[:1] == (b"pg_data",):
                root.make_dir(inner[1:], manifest.directory_mode)
        for info in stanza.storage.list(prefix):
            plain, ending = info.key[len(prefix) :], extension(info.key)
            known = bool(ending) and context.catalog.by_extension(ending) is not None
            target = plain[: -len(ending) - 1] if known else plain
            if posixpath.basename(target) == "pg_control":
                control = (info.key, ending if known else "", target)
                continue
            _file(context, stanza.storage, root, (info.key, ending if known else "", target), manifest.file_mode)
        if control is None:
            raise IntegrityError(f"{backup.label} has no global/pg_control: it cannot be started")
        root.finish()
        _file(context, stanza.storage, root, control, manifest.file_mode)
        root.finish()
    return backup.label


def _file(context: Context, storage: Storage, root: Destination, what: tuple[str, str, str], mode: int) -> None:
    key, ending, target = what
    source = context.decode(storage.open(key), ending)
    try:
        fd = root.create(components(target), mode)
        try:
            while piece := source.read(1 << 20):
                write_all(fd, piece, target)
        finally:
            root.close_file(fd)
    finally:
        source.close()


def rows_as_table(found: list[StanzaBackup], manifests: list[Manifest] | None, *, pretty: bool) -> str:
    """The list in its plain or boxed form; `manifests` for `--detail`."""
    clock = times.format_rfc850 if pretty else _seconds
    plain = ["name", "modified", "wal_file_name"]
    titles = ["Name", "Modified", "WAL file name"]
    cells = [[each.label, clock(each.stopped * times.SECOND), each.archive_start] for each in found]
    if manifests is None:
        plain, titles = ["backup_name", *plain[1:], "storage_name"], ["Backup name", *titles[1:], "Storage name"]
        cells = [[*row, ""] for row in cells]
    else:
        more = ["Type", "Start time", "Finish time", "PG version", "Start LSN", "Finish LSN"]
        plain += [each.lower().replace(" ", "_") for each in more]
        titles += more
        for row, manifest in zip(cells, manifests, strict=True):
            row += [
                manifest.kind,
                clock(manifest.started * times.SECOND),
                clock(manifest.stopped * times.SECOND),
                manifest.version,
                format_lsn(manifest.start_lsn),
                format_lsn(manifest.finish_lsn),
            ]
    return table.pretty(titles, cells) if pretty else table.plain(plain, cells)


def _seconds(ns: int) -> str:
    return times.format_utc(ns, 0)


def rows_as_json(found: list[StanzaBackup], manifests: list[Manifest] | None, *, pretty: bool) -> str:
    """The list as JSON, with the original's keys."""
    rows: list[dict[str, Any]] = []
    for number, each in enumerate(found):
        stopped = times.format_utc(each.stopped * times.SECOND)
        if manifests is None:
            rows.append(
                {"backup_name": each.label, "time": stopped, "wal_file_name": each.archive_start, "storage_name": ""}
            )
            continue
        manifest = manifests[number]
        rows.append(
            {
                "BackupName": each.label,
                "ModifiedTime": stopped,
                "WalFileName": each.archive_start,
                "Type": manifest.kind,
                "StartTime": times.format_utc(manifest.started * times.SECOND),
                "FinishTime": times.format_utc(manifest.stopped * times.SECOND),
                "PgVersion": manifest.version,
                "StartLsn": manifest.start_lsn,
                "FinishLsn": manifest.finish_lsn,
                "SystemIdentifier": manifest.system_identifier,
                "DirectoryPaths": manifest.directories(),
                "DefaultFileMode": manifest.file_mode,
                "DefaultDirectoryMode": manifest.directory_mode,
            }
        )
    return dumps(rows, indent=4 if pretty else None).decode()
