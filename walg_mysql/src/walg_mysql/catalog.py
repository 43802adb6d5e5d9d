"""`backup-list --detail`, `backup-show` and `get-stream` (spec/mysql.md 12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from walg_core.backups import gojson, sentinels, table, times
from walg_core.backups.catalog import BackupObject, list_all
from walg_core.backups.listing import moment
from walg_core.io.atomic import AtomicFile
from walg_core.observe import log
from walg_core.observe.progress import TrackedReader, track
from walg_core.pipeline.reader import CHUNK, Reader
from walg_core.streams.fetch import open_stream

from walg_mysql.restore.fetch import choose
from walg_mysql.sentinel import FORM, Sentinel

if TYPE_CHECKING:
    from walg_core.context import Context

_HEADS = (
    ("name", "Name"),
    ("last_modified", "Last modified"),
    ("start_time", "Start time"),
    ("stop_time", "Stop time"),
    ("hostname", "Hostname"),
    ("binlog_start", "Binlog start"),
    ("binlog_end", "Binlog end"),
    ("uncompressed_size", "Uncompressed size"),
    ("compressed_size", "Compressed size"),
    ("is_permanent", "Permanent"),
)
_OMITTED = ("uncompressed_size", "compressed_size", "hostname", "user_data")


def detailed_list(context: Context, *, pretty: bool, json: bool, target: str) -> str:
    """The text of `backup-list --detail`, in the storage's order; "" when there is nothing to print."""
    storages = context.read_storages(target)
    named = {storage.name: storage for storage in storages}
    order = {storage.name: number for number, storage in enumerate(storages)}
    entries = sorted(list_all(storages), key=lambda entry: (order[entry.storage_name], entry.key))
    found = [(each, Sentinel.of(sentinels.load(named[each.storage_name], each, FORM).document)) for each in entries]
    if json:
        rows = [_row(entry, sentinel) for entry, sentinel in found]
        return gojson.dumps(rows, indent=4 if pretty else None).decode("utf-8", "replace") + "\n"
    if not found:
        log.info("No backups found")
        return ""
    cells = [_cells(entry, sentinel, pretty=pretty) for entry, sentinel in found]
    if pretty:
        return table.pretty([title for _, title in _HEADS], cells)
    return table.plain([name for name, _ in _HEADS], cells)


def _row(entry: BackupObject, sentinel: Sentinel) -> dict[str, Any]:
    values = {
        "backup_name": entry.name,
        "modify_time": times.format_local(entry.modified_ns),
        "binlog_start": sentinel.binlog_start,
        "binlog_end": sentinel.binlog_end,
        "start_local_time": _time(sentinel.start_ns),
        "stop_local_time": _time(sentinel.stop_ns),
        "uncompressed_size": sentinel.plain_size,
        "compressed_size": sentinel.stored_size,
        "hostname": sentinel.hostname,
        "is_permanent": sentinel.permanent,
        "user_data": None if sentinel.user_data is None else gojson.user_data(sentinel.user_data),
    }
    return {key: value for key, value in values.items() if key not in _OMITTED or value not in (None, "", 0)}


def _time(ns: int) -> str:
    return times.format_utc(ns) if ns == times.ZERO else times.format_local(ns)


def _cells(entry: BackupObject, sentinel: Sentinel, *, pretty: bool) -> list[str]:
    return [
        entry.name,
        moment(entry.modified_ns, pretty=pretty),
        moment(sentinel.start_ns, pretty=pretty),
        moment(sentinel.stop_ns, pretty=pretty),
        sentinel.hostname,
        sentinel.binlog_start,
        sentinel.binlog_end,
        str(sentinel.plain_size),
        str(sentinel.stored_size),
        "true" if sentinel.permanent else "false",
    ]


def show(context: Context, name: str) -> str:
    """The text of `backup-show`: everything that the sentinel says, and where it stands. Raises NoBackups."""
    storage, found = choose(context, name)
    values = {
        "backup_name": found.name,
        "modify_time": times.format_local(found.entry.modified_ns),
        "storage_name": storage.name,
        **found.document.values,
    }
    return gojson.dumps(values, indent=4).decode("utf-8", "replace") + "\n"


def get_stream(context: Context, name: str, path: str, put: Callable[[bytes], object]) -> None:
    """The plain stream of a backup into the file `path`, which appears whole or not at all, or through `put`.

    Raises NoBackups, IntegrityError, StorageError, OSError.
    """
    storage, found = choose(context, name)
    size = Sentinel.of(found.document).plain_size
    source = open_stream(context, storage, found.name, plain_size=size)
    try:
        with track(size or None, "download") as tracker:
            tracked = TrackedReader(source, tracker)
            if path:
                with AtomicFile(path) as file:
                    _pour(tracked, file.write)
            else:
                _pour(tracked, put)
    finally:
        source.close()


def _pour(source: Reader, put: Callable[[bytes], object]) -> None:
    while piece := source.read(CHUNK):
        put(piece)
