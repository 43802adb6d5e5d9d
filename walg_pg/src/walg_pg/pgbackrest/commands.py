"""What the four `pgbackrest` commands do."""

from __future__ import annotations

import os
from typing import Any

from walg_core.backups import gojson, table, times
from walg_core.context import Context
from walg_core.errors import EngineError, WalgError
from walg_core.io import atomic
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK

from walg_pg.journal import place, segment, show
from walg_pg.journal.archive import Timeline
from walg_pg.journal.history import Switch, history_name, parse_history
from walg_pg.lsn import format_lsn, is_segment_name, parse_segment_name
from walg_pg.pgbackrest.repository import PgBackup, Repository, lsn


def fetch_wal(context: Context, name: str, destination: str) -> None:
    """Write a WAL file to `destination`, checked. Raises ObjectNotFound, IntegrityError."""
    if os.path.lexists(destination):
        raise WalgError(f"{destination} exists already; nothing is overwritten")
    repository = Repository(context, context.primary_storage())
    source = repository.open(repository.wal_key(name))
    size = place.segment_size(context.config)
    try:
        with atomic.AtomicFile(destination, exclusive=True) as file:
            head = b""
            while piece := source.read(CHUNK):
                head = head or piece[: segment.HEADER_SIZE]
                file.write(piece)
            if is_segment_name(name):
                segment.check(name, head, file.size, size, "the archived object")
    finally:
        source.close()


def show_wal(context: Context) -> list[show.Shown]:
    """The repository's timelines, without backups."""
    repository = Repository(context, context.primary_storage())
    size = place.segment_size(context.config)
    folder = repository.archive_folder()
    found: dict[int, set[int]] = {}
    histories: dict[str, str] = {}
    for info in repository.storage.list(folder):
        name = info.key.rpartition("/")[2]
        if is_segment_name(name[:24]) and name[24:25] in ("", "-"):
            timeline, number = parse_segment_name(name[:24], size)
            found.setdefault(timeline, set()).add(number)
        elif name[8:16] == ".history":
            histories[name[:16]] = info.key
    shown = []
    for number in sorted(found):
        switches = _history(repository, histories.get(history_name(number)), number)
        each = Timeline(number, size, sorted(found[number]))
        shown.append(show.Shown(each, switches[-1] if switches else None, each.missing(), []))
    return shown


def _history(repository: Repository, key: str | None, timeline: int) -> list[Switch]:
    if key is None:
        return []
    source = repository.open(key)
    try:
        return parse_history(source.read(CHUNK).decode("utf-8", "replace"), name=history_name(timeline))
    finally:
        source.close()


def fetch_backup(context: Context, destination: str, label: str) -> None:
    """Restore a full backup into an empty directory. Raises EngineError for kinds that cannot be restored."""
    repository = Repository(context, context.primary_storage())
    backup = repository.find(label)
    if backup.kind != "full":
        raise EngineError(f"backup {backup.label} is of type {backup.kind}; only full ones can be fetched")
    manifest = repository.manifest(backup.label)
    options = manifest.get("backup:option", {})
    if any("bni" in row for row in manifest.get("target:file", {}).values() if isinstance(row, dict)):
        raise EngineError(
            f"backup {backup.label} bundles its files, which cannot be read", hint="use pgbackrest restore"
        )
    if os.path.isdir(destination) and os.listdir(destination):
        raise WalgError(f"{destination} is not empty")
    mode = int(str(manifest.get("target:path:default", {}).get("mode", "0700")), 8)
    file_mode = int(str(manifest.get("target:file:default", {}).get("mode", "0600")), 8)
    atomic.make_dirs(destination, mode)
    for path in sorted(manifest.get("target:path", {})):
        below = _below(path)
        if below:
            atomic.make_dirs(os.path.join(destination, below), mode)
    compressed = str(options.get("option-compress-type", "none")) != "none"
    prefix = repository.prefix(backup.label) + "pg_data/"
    for info in repository.storage.list(prefix):
        name = info.key[len(prefix) :]
        source = repository.open(info.key)
        target = name.rpartition(".")[0] if compressed else name
        try:
            atomic.write_file(os.path.join(destination, target), source, mode=file_mode)
        finally:
            source.close()
    log.info(f"Restored backup {backup.label} of the pgBackRest repository to {destination}")


def _below(path: str) -> str:
    """A manifest's path below the data directory, "" for that itself. Raises WalgError when it leads out."""
    if path == "pg_data" or not path.startswith("pg_data/"):
        return ""
    below = path.removeprefix("pg_data/")
    if ".." in below.split("/") or below.startswith("/"):
        raise WalgError(f"the manifest names the directory {path!r}, which is refused")
    return below


def list_rows(repository: Repository, *, detail: bool) -> list[tuple[PgBackup, dict[str, Any]]]:
    """The backups with their manifests (empty without `detail`)."""
    return [(backup, repository.manifest(backup.label) if detail else {}) for backup in repository.backups()]


def as_text(rows: list[tuple[PgBackup, dict[str, Any]]], *, pretty: bool, detail: bool) -> str:
    """The plain or boxed table."""
    clock = times.format_rfc850 if pretty else (lambda ns: times.format_utc(ns, 0))
    if detail:
        names = ["name", "modified", "wal_file_name", "type", "start_time", "finish_time", "pg_version"]
        names += ["start_lsn", "finish_lsn"]
    else:
        names = ["backup_name", "modified", "wal_file_name", "storage_name"]
    cells = []
    for backup, manifest in rows:
        row = [backup.label, clock(backup.stopped * times.SECOND), backup.wal_start]
        if detail:
            about = manifest.get("backup", {})
            row += [backup.kind, clock(backup.started * times.SECOND), clock(backup.stopped * times.SECOND)]
            row += [str(manifest.get("backup:db", {}).get("db-version", ""))]
            row += [format_lsn(lsn(about.get(f"backup-lsn-{end}"))) for end in ("start", "stop")]
        else:
            row.append("")
        cells.append(row)
    if pretty:
        return table.pretty([name.replace("_", " ").capitalize() for name in names], cells)
    return table.plain(names, cells)


def as_json(rows: list[tuple[PgBackup, dict[str, Any]]], *, pretty: bool, detail: bool) -> str:
    """One array; detailed rows have the original's own keys."""
    out: list[dict[str, Any]] = []
    for backup, manifest in rows:
        stopped = times.format_utc(backup.stopped * times.SECOND)
        if not detail:
            out.append(
                {"backup_name": backup.label, "time": stopped, "wal_file_name": backup.wal_start, "storage_name": ""}
            )
            continue
        about, database = manifest.get("backup", {}), manifest.get("backup:db", {})
        out.append(
            {
                "BackupName": backup.label,
                "ModifiedTime": stopped,
                "WalFileName": backup.wal_start,
                "Type": backup.kind,
                "StartTime": times.format_utc(backup.started * times.SECOND),
                "FinishTime": stopped,
                "PgVersion": str(database.get("db-version", "")),
                "StartLsn": lsn(about.get("backup-lsn-start")),
                "FinishLsn": lsn(about.get("backup-lsn-stop")),
                "SystemIdentifier": database.get("db-system-id", 0),
                "DirectoryPaths": sorted(manifest.get("target:path", {})),
                "DefaultFileMode": int(str(manifest.get("target:file:default", {}).get("mode", "0600")), 8),
                "DefaultDirectoryMode": int(str(manifest.get("target:path:default", {}).get("mode", "0700")), 8),
            }
        )
    return gojson.dumps(out, indent=4 if pretty else None).decode()
