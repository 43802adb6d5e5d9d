"""`backup-push` of every type (spec/redis.md 3)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from walg_core.backups import gojson, retention, times
from walg_core.backups.catalog import FOLDER, SENTINEL_SUFFIX
from walg_core.errors import ConfigError, EngineError, UsageError
from walg_core.io.atomic import make_dirs, write_file
from walg_core.observe import log
from walg_core.pipeline.reader import BytesReader, Reader
from walg_core.pipeline.transfer import store
from walg_core.streams.commands import CommandReader
from walg_core.streams.engine import CREATE, Marks
from walg_core.streams.push import Pushed, backup_of, store_stream

from walg_redis.backup import manifest, slots
from walg_redis.backup.disk import DiskWatcher
from walg_redis.backup.pins import Pinned, pin, release
from walg_redis.backup.replication import RdbTail, ReplicationReader
from walg_redis.backup.tars import pack
from walg_redis.connection import Facts, address, client, command_environment, facts
from walg_redis.sentinel import ATTACHED, main_sentinel, tiered_sentinel

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

_SKIPPED = (".tmp", ".lock", ".pid", ".part")
_TRIES = 20


class Options(NamedTuple):
    """The command line of one push; `kind` is one of `sentinel.TYPES`."""

    kind: str
    marks: Marks
    sharded: bool = False
    ts_backup: str = ""
    ts_backup_id: str = ""


class _Tiered(NamedTuple):
    start_ns: int
    plain: int
    stored: int
    files: int


def push(context: Context, options: Options) -> str:
    """Make one backup; returns its name. On failure nothing of it stays. Raises UsageError, EngineError, …"""
    tiered = options.kind == "ts" or options.kind.endswith("_ts")
    if tiered:
        _check_tree(options)
    elif options.ts_backup or options.ts_backup_id:
        raise UsageError("--ts-backup and --ts-backup-id are only valid for tiered-storage backup types")
    if options.kind == "ts":
        return _push_tiered(context, options)
    return _push_main(context, options)


def _check_tree(options: Options) -> None:
    path = options.ts_backup
    if not path:
        raise UsageError(f'--ts-backup is required for backup type "{options.kind}"')
    if not os.path.isdir(path):
        raise UsageError(f"--ts-backup {path} is not a directory")
    if not os.listdir(path):
        raise UsageError(f"--ts-backup {path} is empty")


def _push_main(context: Context, options: Options) -> str:
    kind = options.kind.removesuffix("_ts")
    parts: list[_Tiered] = []
    version = _server_version(context) if kind == "aof" else ""
    server = _Facts(context)
    shards = gojson.dumps(slots.read(context.config)) if options.sharded else b""

    def body(storage: Storage, folder: str) -> tuple[int, int]:
        plain, stored = (_store_aof if kind == "aof" else _store_rdb)(context, storage, folder)
        if shards:
            held = store(context, storage, f"{folder}slots.json", BytesReader(shards))
            plain, stored = plain + (held.plain_size if kind == "rdb" else 0), stored + held.stored_size
        if options.kind.endswith("_ts"):
            parts.append(_store_tree(context, storage, f"{folder}{ATTACHED}/", options.ts_backup))
        return plain, stored

    pushed = backup_of(
        context,
        body,
        lambda done: main_sentinel(done, options.marks, kind, server.result(), version),
        prefix="aof_" if kind == "aof" else "stream_",
    )
    if parts:
        _attach(context, pushed, options, parts[0])
    log.info(f"Backup {pushed.name}: {pushed.plain_size} bytes read, {pushed.stored_size} stored")
    return pushed.name


class _Facts:
    """INFO, asked while the server prepares the data: both take their time to begin."""

    def __init__(self, context: Context) -> None:
        self._found = Facts()
        self._context = context
        self._thread = threading.Thread(target=self._ask, name="info", daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        self._found = facts(self._context.config)

    def result(self) -> Facts:
        """Waits for the answer."""
        self._thread.join()
        return self._found


def _attach(context: Context, main: Pushed, options: Options, part: _Tiered) -> None:
    """The sentinel of the tiered part, last; without it the whole backup goes."""
    storage = context.write_storage()
    name = f"{main.name}/{ATTACHED}"
    done = Pushed(name, part.start_ns, times.now(), part.plain, part.stored)
    values = tiered_sentinel(done, options.marks.permanent, options.ts_backup_id, options.ts_backup, part.files)
    try:
        storage.put_bytes(f"{FOLDER}{name}{SENTINEL_SUFFIX}", gojson.dumps(values))
    except BaseException:
        retention.remove_backup(storage, main.name)
        raise


def _push_tiered(context: Context, options: Options) -> str:
    counts = [0]

    def body(storage: Storage, folder: str) -> tuple[int, int]:
        part = _store_tree(context, storage, folder, options.ts_backup)
        counts[0] = part.files
        return part.plain, part.stored

    pushed = backup_of(
        context,
        body,
        lambda done: tiered_sentinel(done, options.marks.permanent, options.ts_backup_id, options.ts_backup, counts[0]),
        prefix="ts_",
    )
    log.info(f"Backup {pushed.name}: {pushed.plain_size} bytes read, {pushed.stored_size} stored")
    return pushed.name


# RDB.


def _store_rdb(context: Context, storage: Storage, folder: str) -> tuple[int, int]:
    config = context.config
    text = config.get(CREATE)
    source: Reader
    if text and text.strip():
        source = CommandReader(text, extra=command_environment(config))
    elif text is not None:
        raise ConfigError(f"{CREATE} not configured: it is empty", hint="unset it to back up without a command")
    else:
        source = RdbTail(ReplicationReader(address(config)))
    return store_stream(context, storage, folder, source)


# AOF.


def _server_version(context: Context) -> str:
    """Of the server's program, as the original has it, else of the running server. Raises EngineError."""
    config = context.config
    program = config.get("WALG_REDIS_SERVER_PROCESS_NAME")
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
        for word in done.stdout.split():
            if word.startswith("v="):
                return word[2:]
        why = f"it printed {done.stdout.strip()!r}"
    except (OSError, subprocess.SubprocessError) as error:
        why = str(error)
    try:
        with client(address(config)) as server:
            info = dict(server.info("server"))
        return str(info.get("valkey_version") or info["redis_version"])
    except Exception as error:
        raise EngineError(
            f"the server's version cannot be told: {program} --version: {why}; INFO: {error}",
            hint="set WALG_REDIS_SERVER_PROCESS_NAME to the server's program",
        ) from error


def _store_aof(context: Context, storage: Storage, folder: str) -> tuple[int, int]:
    watcher = DiskWatcher(context.config)
    pinned = _pin_aof(context)
    try:
        return pack(context, storage, folder, pinned, watcher.check)
    finally:
        release(pinned)


def _pin_aof(context: Context) -> list[Pinned]:
    """The manifest's copy and the files it names. A rewrite in between takes files away: then all over again."""
    config = context.config
    directory = os.path.join(config.get("WALG_REDIS_DATA_PATH"), config.get("WALG_REDIS_APPENDONLY_PATH"))
    name = config.get("WALG_REDIS_APPENDONLY_MANIFEST")
    folder = config.get("WALG_REDIS_APPENDONLY_TEMP_MANIFEST")
    make_dirs(folder, 0o755)
    for attempt in range(_TRIES):
        data = _read_manifest(os.path.join(directory, name))
        files = manifest.parse(data, os.path.join(directory, name))
        present = [each for each in files if each.kind != "h" or os.path.exists(os.path.join(directory, each.name))]
        try:
            pinned = pin(
                [(os.path.join(directory, each.name), each.name) for each in present],
                folder,
                "WALG_REDIS_APPENDONLY_TEMP_MANIFEST",
            )
        except EngineError:
            if attempt + 1 < _TRIES and _read_manifest(os.path.join(directory, name)) != data:
                continue
            raise
        copy = os.path.join(folder, name)
        write_file(copy, data, mode=0o644)
        return [Pinned(copy, f"/{name}", len(data), 0o644), *pinned]
    raise AssertionError("the last attempt returns or raises")


def _read_manifest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise EngineError(
            f"the AOF manifest {path} cannot be read: {error.strerror}",
            hint="is appendonly switched on (Redis 7 or later)? check WALG_REDIS_DATA_PATH,"
            " WALG_REDIS_APPENDONLY_PATH and WALG_REDIS_APPENDONLY_MANIFEST",
        ) from error


# Tiered storage.


def _store_tree(context: Context, storage: Storage, folder: str, source: str) -> _Tiered:
    start = times.now()
    base = context.config.get("WALG_REDIS_TS_PIN_FOLDER")
    make_dirs(base, 0o700)
    if os.stat(base).st_dev != os.stat(source).st_dev:
        raise EngineError(
            f"ts source {source} and pin folder {base} are on different filesystems; configure WALG_REDIS_TS_PIN_FOLDER"
            " on the source filesystem"
        )
    held = tempfile.mkdtemp(prefix="ts-", dir=base)
    try:
        pinned = pin(((path, relative) for path, relative in _tree(source)), held, "WALG_REDIS_TS_PIN_FOLDER")
        if not pinned:
            raise EngineError(f"--ts-backup {source} has only files that are skipped (.tmp, .lock, .pid, .part)")
        plain, stored = pack(context, storage, folder, pinned, lambda: None)
    finally:
        shutil.rmtree(held, ignore_errors=True)
    return _Tiered(start, plain, stored, len(pinned))


def _tree(source: str) -> Iterator[tuple[str, str]]:
    """Regular files below `source` with their relative names, in a stable order."""
    for directory, directories, names in os.walk(source):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            if name.endswith(_SKIPPED) or os.path.islink(path) or not os.path.isfile(path):
                continue
            yield path, os.path.relpath(path, source)
