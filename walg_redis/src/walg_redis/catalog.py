"""Lists, details and deletion of Redis backups (spec/redis.md 6 and 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from walg_core.backups import claims, gojson, retention, sentinels, table, times
from walg_core.backups.catalog import FOLDER, BackupObject, NoBackups, list_all
from walg_core.backups.listing import moment
from walg_core.backups.selection import find_by_name
from walg_core.backups.sentinels import Backup, Document
from walg_core.errors import ObjectNotFound, UsageError, WalgError
from walg_core.observe import log
from walg_core.streams.engine import candidate

from walg_redis.form import FORM
from walg_redis.restore.fetch import kind_of, slots
from walg_redis.sentinel import ATTACHED, KEYS, ZERO_TIME, arranged

if TYPE_CHECKING:
    from walg_core.backups.deletion import Candidate
    from walg_core.context import Context
    from walg_core.storage.api import Storage

_FROM_TREE = ("TSBackupID", "TSBackupPath", "TSDataSize", "TSFileCount", "TSStartTime", "TSFinishTime")
_COLUMNS = (
    ("name", "Name", "BackupName"),
    ("start_time", "Start time", "StartLocalTime"),
    ("finish_time", "Finish time", "FinishLocalTime"),
    ("user_data", "UserData", "UserData"),
    ("data_size", "Data size", "DataSize"),
    ("backup_size", "Backup size", "BackupSize"),
    ("permanent", "Permanent", "Permanent"),
    ("backup_type", "Backup type", "BackupType"),
    ("version", "Backup version", "Version"),
    ("used_memory", "Used memory (limited by maxmemory)", "UsedMemory"),
    ("used_memory_rss", "Used memory (as seen by OS))", "UsedMemoryRss"),
    ("has_ts", "Has TS", "HasTS"),
    ("ts_backup_id", "TS backup ID", "TSBackupID"),
    ("ts_backup_path", "TS backup path", "TSBackupPath"),
    ("ts_data_size", "TS data size", "TSDataSize"),
    ("ts_file_count", "TS file count", "TSFileCount"),
)
_TIMES = ("StartLocalTime", "FinishLocalTime", "TSStartTime", "TSFinishTime")
_TEXTS = ("BackupName", "BackupType", "Version", "TSBackupID", "TSBackupPath")
_FLAGS = ("Permanent", "HasTS")


def details(storage: Storage, backup: Backup) -> dict[str, Any]:
    """The sentinel's keys, completed: a missing name and type, and what the attached tiered part tells."""
    document = backup.document
    values = {key: document.get(key) for key in KEYS}
    values["BackupName"] = values["BackupName"] or backup.name
    values["BackupType"] = kind_of(backup)
    values["HasTS"] = values["BackupType"] == "ts"
    tree = None if values["HasTS"] else _attached(storage, backup.name)
    if tree:
        values["HasTS"] = True
        values |= {key: tree.get(key) for key in _FROM_TREE}
    return arranged({key: value for key, value in values.items() if value is not None})


def _attached(storage: Storage, name: str) -> Document | None:
    key = f"{FOLDER}{name}/{ATTACHED}_backup_stop_sentinel.json"
    try:
        return Document.parse(storage.get(key, sentinels.LIMIT), key)
    except ObjectNotFound:
        return None


def _loaded(context: Context, target: str = "") -> list[tuple[Storage, Backup]]:
    storages = context.read_storages(target)
    named = {storage.name: storage for storage in storages}
    entries: list[BackupObject] = list_all(storages)
    return [(named[each.storage_name], sentinels.load(named[each.storage_name], each, FORM)) for each in entries]


def detailed_list(context: Context, *, pretty: bool, json: bool, target: str) -> str:
    """`backup-list --detail`, by finish time; "" when there is nothing to print."""
    found = _loaded(context, target)
    found.sort(key=lambda pair: pair[1].finish_ns or pair[1].start_ns)
    rows = [details(storage, backup) for storage, backup in found]
    if json:
        return gojson.dumps(rows, indent=4 if pretty else None).decode("utf-8", "replace") + "\n"
    if not rows:
        log.info("No backups found")
        return ""
    cells = [[_cell(row, key, pretty=pretty) for _, _, key in _COLUMNS] for row in rows]
    if pretty:
        return table.pretty([title for _, title, _ in _COLUMNS], cells)
    return table.plain([name for name, _, _ in _COLUMNS], cells)


def _cell(row: dict[str, Any], key: str, *, pretty: bool) -> str:
    value = row.get(key)
    if key in _TIMES:
        return moment(times.parse(value or ZERO_TIME), pretty=pretty)
    if key == "UserData":
        return gojson.dumps(value).decode("utf-8", "replace")
    if key in _FLAGS:
        return "true" if value else "false"
    return str(value or ("" if key in _TEXTS else 0))


def info(context: Context, name: str, tag: str) -> str:
    """`backup-info`: the completed sentinel in an array, or one field in Go's form. Raises NoBackups, WalgError."""
    storage, entry = find_by_name(context.read_storages(), name)
    values = details(storage, sentinels.load(storage, entry, FORM))
    if not tag:
        return gojson.dumps([values]).decode("utf-8", "replace") + "\n"
    if tag == "Slots":
        data = slots(context, storage, entry.name)
        if data is None:
            raise WalgError(f"backup {entry.name} has no slots", hint="only backups made with --sharded have them")
        return data.decode("utf-8", "replace") + "\n"
    if tag not in KEYS:
        raise WalgError(f"no {tag} field in struct Backup", hint=f"one of {', '.join(KEYS)}, Slots")
    value = values.get(tag)
    if tag in _TIMES:
        return go_time(value or ZERO_TIME) + "\n"
    if value is None:
        value = "" if tag in _TEXTS else False if tag in _FLAGS else None if tag == "UserData" else 0
    return go_value(value) + "\n"


def go_value(value: Any) -> str:
    """A value as Go prints it by default: `true`, `map[k:v]`, `[1 2]`, `<nil>`."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_value(each)}" for key, each in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_value, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def go_time(text: str) -> str:
    """`2024-01-02 03:04:05.12 +0300 MSK`; the zone's name where it is this host's, else its offset again."""
    ns = times.parse(text)
    day, _, rest = text.partition("T")
    clock = rest[:-1] if rest.endswith("Z") else rest[:-6]
    if rest.endswith("Z"):
        return f"{day} {clock} +0000 UTC"
    offset = rest[-6:].replace(":", "")
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // times.SECOND)).astimezone()
    name = local.tzname() if local.strftime("%z") == offset else offset
    return f"{day} {clock} {offset} {name}"


# Deletion.


def delete_one(context: Context, name: str, *, confirm: bool, strict: bool) -> None:
    """`backup-delete`. A missing backup is only logged, as in the original, unless `strict`. Raises WalgError."""
    try:
        storage, entry = find_by_name(context.read_storages(), name)
    except NoBackups as error:
        if strict:
            raise
        log.error(str(error))
        return
    _check_deletable(storage, entry)
    if not confirm:
        log.info(f"Skipping backup deletion due to dry-run: {entry.name}, run with --confirm to execute")
        return
    with claims.of_deletion(storage, [entry.name]):
        _check_deletable(storage, entry)
        retention.remove_backup(storage, entry.name)
    log.info(f"Backup was deleted: {entry.name}")


def _check_deletable(storage: Storage, entry: BackupObject) -> None:
    """Raises WalgError for a permanent backup, and for one that is being marked."""
    for claim in claims.live(storage, claims.BACKUP):
        if claim.name == entry.name:
            raise WalgError(f"nothing was deleted: backup {entry.name} is {claim}", hint="wait until it has ended")
    if sentinels.load(storage, entry, FORM).permanent:
        raise WalgError(f"Unable to delete permanent backup {entry.name}", hint="`backup-mark -i` takes the mark away")


def purge(context: Context, *, count: int | None, after: str, garbage: bool, confirm: bool) -> None:
    """`delete` with a retention policy. Raises UsageError, StorageError."""
    if count is not None and count < 1:
        raise UsageError("Retain count can not be 0", hint="`delete everything` deletes all backups")
    after_ns = None
    if after:
        try:
            after_ns = times.parse(after)
        except ValueError as error:
            raise UsageError(f"--retain-after: {error}") from None
    for storage in context.read_storages():

        def load(storage: Storage = storage) -> list[Candidate]:
            return [candidate(each) for each in sentinels.load_all(storage, FORM)]

        retention.purge(storage, load, count=count, after_ns=after_ns, garbage=garbage, confirm=confirm)
