"""`backup-fetch` of every type (spec/redis.md 5): restore beside, check, swap; the old data goes last."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from walg_core import hooks
from walg_core.backups import sentinels
from walg_core.backups.catalog import FOLDER, LATEST, NoBackups, list_all
from walg_core.backups.selection import find_by_name
from walg_core.backups.sentinels import Backup
from walg_core.errors import EngineError, IntegrityError, ObjectNotFound, UsageError
from walg_core.events import RestoreEvent
from walg_core.io.atomic import AtomicFile, rename
from walg_core.observe import log
from walg_core.observe.progress import TrackedReader, track
from walg_core.pipeline.reader import CHUNK, read_all
from walg_core.pipeline.transfer import open_by_name
from walg_core.streams.commands import feed_file
from walg_core.streams.engine import RESTORE
from walg_core.streams.fetch import open_stream

from walg_redis.backup.tars import PARTITIONS
from walg_redis.connection import command_environment
from walg_redis.form import FORM
from walg_redis.restore import appendonly
from walg_redis.restore.check import check_aof, check_rdb
from walg_redis.restore.stopped import require_stopped
from walg_redis.restore.swap import Old, Staging, dump_files, replace_directory
from walg_redis.restore.tars import unpack
from walg_redis.sentinel import ATTACHED, version_pair

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage


class Options(NamedTuple):
    """The command line of one fetch; `kind` is one of `sentinel.TYPES`."""

    name: str
    kind: str
    skip_clean: bool = False
    skip_download: bool = False
    skip_checks: bool = False
    redis_version: str = ""
    ts_backup: str = ""
    keep_old: bool = False
    force: bool = False
    with_aof: bool = False


def fetch(context: Context, options: Options) -> None:
    """Restore one backup. Raises UsageError, NoBackups, IntegrityError, EngineError, CommandFailed, StorageError."""
    _check_options(options)
    storage, backup = choose(context, options.name, options.kind)
    log.info(f"restoring {backup.name}")
    kind = options.kind.removesuffix("_ts")
    with ExitStack() as cleanup:
        tree = _stage_tree(context, storage, backup, options, cleanup) if options.ts_backup else ""
        if kind == "rdb":
            _fetch_rdb(context, storage, backup, options)
        elif kind == "aof":
            _fetch_aof(context, storage, backup, options)
        if tree:
            _place_tree(tree, options)
    where = options.ts_backup if kind == "ts" else context.config.get("WALG_REDIS_DATA_PATH")
    hooks.notify(context.catalog, "walg_restore_finished", event=RestoreEvent(context.engine, backup.name, where))


def _check_options(options: Options) -> None:
    tiered = options.kind == "ts" or options.kind.endswith("_ts")
    if tiered and not options.ts_backup:
        raise UsageError(f'--ts-backup is required for backup type "{options.kind}"')
    if options.ts_backup and not tiered:
        raise UsageError("--ts-backup is only valid for tiered-storage backup types")
    if options.kind.startswith("aof") and not options.redis_version:
        raise UsageError(f'--redis-version is required for backup type "{options.kind}"')


def kind_of(backup: Backup) -> str:
    """`rdb`, `aof` or `ts`."""
    return backup.document.text("BackupType") or "rdb"


def choose(context: Context, name: str, kind: str) -> tuple[Storage, Backup]:
    """The named backup, or the newest of that type for `LATEST`. Raises NoBackups, UsageError for another type."""
    main = kind.removesuffix("_ts")
    storages = context.read_storages()
    if name != LATEST:
        storage, entry = find_by_name(storages, name)
        backup = sentinels.load(storage, entry, FORM)
        if kind_of(backup) != main:
            raise UsageError(
                f"backup {name} is of type {kind_of(backup)}, not {main}", hint=f"add --type {kind_of(backup)}"
            )
        return storage, backup
    named = {storage.name: storage for storage in storages}
    for entry in reversed(list_all(storages)):
        storage = named[entry.storage_name]
        backup = sentinels.load(storage, entry, FORM)
        if kind_of(backup) == main and (kind == main or has_tree(storage, backup.name)):
            log.info(f"LATEST backup is: '{backup.name}'")
            return storage, backup
    raise NoBackups(hint=f"there is no backup of type {kind}; `wal-g backup-list --detail` shows all")


def has_tree(storage: Storage, name: str) -> bool:
    """Whether a tiered-storage part is attached to the backup."""
    return storage.exists(f"{FOLDER}{name}/{ATTACHED}_backup_stop_sentinel.json")


# RDB.


def _fetch_rdb(context: Context, storage: Storage, backup: Backup, options: Options) -> None:
    config = context.config
    data = config.get("WALG_REDIS_DATA_PATH")
    command = config.get(RESTORE)
    aof = os.path.join(data, config.get("WALG_REDIS_APPENDONLY_PATH"))
    replaced = [] if options.skip_clean else [path for path in (aof, *dump_files(data)) if os.path.lexists(path)]
    target = os.path.join(data, config.get("WALG_REDIS_RDB_FILE"))
    if (replaced or not command) and not options.skip_checks:
        require_stopped(config, data)
    reads_aof = appendonly.wanted(config, data, asked=options.with_aof)
    with Staging(_staging_place(data, bool(command))) as folder:
        staged = os.path.join(folder, "dump.rdb")
        _download(context, storage, backup, staged)
        if not options.skip_checks:
            check_rdb(staged)
        old = Old(data, options.keep_old)
        lay_out = bool(reads_aof) and not command and not options.skip_clean
        if command:
            _run_command(context, command, staged, replaced, old)
        else:
            manifest = config.get("WALG_REDIS_APPENDONLY_MANIFEST")
            made = appendonly.lay_out(staged, folder, manifest) if lay_out else ""
            if options.keep_old and os.path.exists(target):
                old.keep(target)
            rename(staged, target)
            if made:
                replace_directory(made, aof, old)
                log.info(f"{aof} is an AOF of the restored data: the server has appendonly")
            for path in replaced:
                if path != target and not (made and path == aof):
                    old.put_aside(path)
        old.finish()
    appendonly.warn(reads_aof, placed=lay_out)


def _staging_place(data: str, has_command: bool) -> str:
    """The data directory; with a command that knows its own place, any with room when there is none."""
    return tempfile.gettempdir() if has_command and not os.access(data, os.W_OK) else data


def _run_command(context: Context, text: str, staged: str, replaced: list[str], old: Old) -> None:
    """Let the user's command place the checked file; when it fails everything is put back."""
    for path in replaced:
        old.put_aside(path)
    try:
        feed_file(text, staged, extra=command_environment(context.config))
    except BaseException:
        old.restore()
        raise


def _download(context: Context, storage: Storage, backup: Backup, path: str) -> None:
    size = backup.document.number("DataSize")
    if size:
        size -= _slots_size(context, storage, backup.name)
    source = open_stream(context, storage, backup.name, plain_size=max(size, 0))
    try:
        with track(size or None, "restore") as tracker, AtomicFile(path, 0o644) as file:
            tracked = TrackedReader(source, tracker)
            while piece := tracked.read(CHUNK):
                file.write(piece)
    finally:
        source.close()


def _slots_size(context: Context, storage: Storage, name: str) -> int:
    data = slots(context, storage, name)
    return len(data) if data is not None else 0


def slots(context: Context, storage: Storage, name: str) -> bytes | None:
    """The slots of a sharded backup as stored JSON; None without."""
    try:
        source, _ = open_by_name(context, storage, f"{FOLDER}{name}/slots.json")
    except ObjectNotFound:
        return None
    try:
        return read_all(source, 64 << 20)
    finally:
        source.close()


# AOF.


def _fetch_aof(context: Context, storage: Storage, backup: Backup, options: Options) -> None:
    config = context.config
    data = config.get("WALG_REDIS_DATA_PATH")
    target = os.path.join(data, config.get("WALG_REDIS_APPENDONLY_PATH"))
    if not options.skip_checks:
        _check_version(backup, options.redis_version)
        require_stopped(config, data)
    if options.skip_download:
        return
    with Staging(data) as folder:
        staged = os.path.join(folder, "aof")
        size = unpack(context, storage, f"{FOLDER}{backup.name}/", staged)
        expected = backup.document.number("DataSize")
        if expected and size != expected:
            raise IntegrityError(
                f"backup {backup.name} has {size} bytes, its sentinel says {expected}",
                hint="the backup is incomplete; nothing was changed",
            )
        if not options.skip_checks:
            check_aof(staged, config.get("WALG_REDIS_APPENDONLY_MANIFEST"))
        old = Old(data, options.keep_old)
        replace_directory(staged, target, old)
        for path in dump_files(data):
            old.put_aside(path)
        old.finish()


def _check_version(backup: Backup, wanted: str) -> None:
    held = backup.document.text("Version")
    if not held:
        raise IntegrityError(f"backup {backup.name} does not tell its server's version", hint="use --skip-checks")
    if version_pair(held) > version_pair(wanted):
        raise EngineError(
            f"backup of version {held} could not be restored to version {wanted}",
            hint="restore into a server of the same or a newer version",
        )


# Tiered storage.


def _stage_tree(context: Context, storage: Storage, backup: Backup, options: Options, cleanup: ExitStack) -> str:
    """The tree unpacked beside its destination, before anything else is touched."""
    target = os.path.abspath(options.ts_backup)
    if not options.skip_clean and os.path.isdir(target) and os.listdir(target) and not options.force:
        raise EngineError(f"--ts-backup {target} is not empty", hint="empty it, or add --force to replace what it has")
    prefix = f"{FOLDER}{backup.name}/" + ("" if options.kind == "ts" else f"{ATTACHED}/")
    if not any(True for _ in storage.list_dir(prefix + PARTITIONS)):
        raise IntegrityError(f"backup {backup.name} has no tiered-storage data")
    if options.skip_clean:
        unpack(context, storage, prefix, target)
        return ""
    folder = cleanup.enter_context(Staging(os.path.dirname(target)))
    staged = os.path.join(folder, os.path.basename(target))
    unpack(context, storage, prefix, staged, mode=0o700)
    return staged


def _place_tree(staged: str, options: Options) -> None:
    target = os.path.abspath(options.ts_backup)
    old = Old(os.path.dirname(target), options.keep_old)
    replace_directory(staged, target, old)
    old.finish()
