"""A pgBackRest repository at the storage's root: its INI files and where things lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from walg_core.backups.catalog import NoBackups
from walg_core.context import Context
from walg_core.errors import IntegrityError, ObjectNotFound
from walg_core.pipeline.reader import Reader
from walg_core.storage.api import Storage

from walg_pg.lsn import parse_lsn

LATEST = "LATEST"
Sections = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PgBackup:
    """One row of `backup.info`. Times are Unix seconds; `kind` is full, diff or incr."""

    label: str
    kind: str
    started: int
    stopped: int
    wal_start: str


def parse_ini(text: str, name: str) -> Sections:
    """Sections of `key=value` rows whose values are JSON. Raises IntegrityError."""
    sections: Sections = {}
    current: dict[str, Any] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], {})
            continue
        cut = _value_at(line)
        if current is None or cut < 0:
            raise IntegrityError(f"{name} line {number} is no key and value")
        try:
            current[line[:cut]] = json.loads(line[cut + 1 :])
        except ValueError as error:
            raise IntegrityError(f"{name} line {number}: {error}") from error
    return sections


def _value_at(line: str) -> int:
    """The `=` before the value: file names may contain more of them, JSON text begins in few ways."""
    at = line.find("=")
    while at >= 0:
        rest = line[at + 1 :]
        if (
            rest[:1] in ('"', "{", "[")
            or rest in ("true", "false", "null")
            or rest.lstrip("-").replace(".", "").isdigit()
        ):
            return at
        at = line.find("=", at + 1)
    return -1


class Repository:
    """One stanza of a repository. Nothing is ever written."""

    def __init__(self, context: Context, storage: Storage) -> None:
        self.context = context
        self.storage = storage
        self.stanza: str = context.config.get("PGBACKREST_STANZA")
        self.list_key = f"backup/{self.stanza}/backup.info"

    def _read(self, key: str) -> Sections:
        try:
            data = self.storage.get(key, 1 << 30)
        except ObjectNotFound as error:
            raise ObjectNotFound(
                key, hint=f"is this a pgBackRest repository with the stanza {self.stanza}? see PGBACKREST_STANZA"
            ) from error
        return parse_ini(data.decode("utf-8", "surrogateescape"), key)

    # Backups.

    def backups(self) -> list[PgBackup]:
        """Oldest first, by the time they ended."""
        rows = self._read(self.list_key).get("backup:current", {})
        found = [
            PgBackup(
                label,
                str(row.get("backup-type", "")),
                int(row.get("backup-timestamp-start", 0)),
                int(row.get("backup-timestamp-stop", 0)),
                str(row.get("backup-archive-start") or ""),
            )
            for label, row in rows.items()
        ]
        return sorted(found, key=lambda backup: backup.stopped)

    def find(self, label: str) -> PgBackup:
        """The backup called `label`, or the newest for `LATEST`. Raises NoBackups."""
        backups = self.backups()
        for backup in reversed(backups):
            if label in (LATEST, backup.label):
                return backup
        raise NoBackups(f"the repository has no backup {label!r}" if backups else "the repository has no backups")

    def manifest(self, label: str) -> Sections:
        """The backup's manifest."""
        return self._read(f"{self.prefix(label)}backup.manifest")

    def prefix(self, label: str) -> str:
        """Where the backup's files lie."""
        return f"backup/{self.stanza}/{label}/"

    # WAL.

    def archive_folder(self) -> str:
        """The folder of the newest database version, ending in `/`."""
        database = self._read(f"archive/{self.stanza}/archive.info").get("db", {})
        return f"archive/{self.stanza}/{database.get('db-version')}-{database.get('db-id')}/"

    def wal_key(self, name: str) -> str:
        """The object that holds a WAL file. Raises ObjectNotFound."""
        folder = self.archive_folder()
        if name.endswith(".history"):
            return self._first(folder, name)
        return self._first(f"{folder}{name[:16]}/", name)

    def _first(self, folder: str, name: str) -> str:
        for info in self.storage.list_dir(folder):
            rest = info.key[len(folder) :]
            if rest.startswith(name) and rest[len(name) : len(name) + 1] in ("", "-", "."):
                return info.key
        error = ObjectNotFound(name)
        error.args = (f"Archive '{name}' does not exist.",)
        raise error

    def open(self, key: str) -> Reader:
        """The plain bytes of an object, decompressed by its extension."""
        extension = key.rpartition("/")[2].rpartition(".")[2] if "." in key.rpartition("/")[2] else ""
        compressor = self.context.catalog.by_extension(extension) if extension else None
        source = self.storage.open(key)
        if compressor is None:
            return source
        plain: Reader = compressor.decompress(source)
        return plain


def lsn(text: Any) -> int:
    """A manifest's LSN, 0 when it has none."""
    return parse_lsn(text) if isinstance(text, str) and text else 0
