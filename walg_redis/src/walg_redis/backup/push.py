"""`backup-push` of every type (spec/redis.md 3). Cold for an rdb: what other types need is imported for them."""

import os
from collections import namedtuple

from walg_core.backups import gojson, times
from walg_core.backups.names import FOLDER, SENTINEL_SUFFIX
from walg_core.errors import ConfigError, UsageError
from walg_core.observe import log
from walg_core.pipeline.reader import BytesReader, Reader
from walg_core.pipeline.transfer import store
from walg_core.streams.marks import CREATE, Marks
from walg_core.streams.push import Pushed, backup_of, store_stream

from walg_redis.connection import Facts, address, command_environment, facts, facts_of
from walg_redis.sentinel import ATTACHED, main_sentinel, tiered_sentinel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    from walg_core.context import Context
    from walg_core.storage.api import Storage

    class Options(NamedTuple):
        """The command line of one push; `kind` is one of `sentinel.TYPES`."""

        kind: str
        marks: Marks
        sharded: bool = False
        ts_backup: str = ""
        ts_backup_id: str = ""
else:
    Options = namedtuple(
        "Options", "kind marks sharded ts_backup ts_backup_id", defaults=(False, "", ""), module=__name__
    )


def push(context: "Context", options: Options) -> str:
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


def _push_main(context: "Context", options: Options) -> str:
    kind = options.kind.removesuffix("_ts")
    version, told = "", Facts()
    if kind == "aof":
        from walg_redis.backup.aof import server_version, store_aof

        version = server_version(context)
    if kind == "aof" or context.config.get(CREATE):
        told = facts(context.config)
    shards = _slots(context) if options.sharded else b""

    def body(storage: "Storage", folder: str) -> tuple[int, int]:
        nonlocal told
        if kind == "aof":
            plain, stored = store_aof(context, storage, folder)
        else:
            source, found = _open_rdb(context)
            told = found or told
            plain, stored = store_stream(context, storage, folder, source)
        if shards:
            held = store(context, storage, f"{folder}slots.json", BytesReader(shards))
            plain, stored = plain + (held.plain_size if kind == "rdb" else 0), stored + held.stored_size
        if options.kind.endswith("_ts"):
            _attach(context, storage, folder, options)
        return plain, stored

    pushed = backup_of(
        context,
        body,
        lambda done: main_sentinel(done, options.marks, kind, told, version),
        prefix="aof_" if kind == "aof" else "stream_",
    )
    log.info(f"Backup {pushed.name}: {pushed.plain_size} bytes read, {pushed.stored_size} stored")
    return pushed.name


def _slots(context: "Context") -> bytes:
    from walg_redis.backup import slots

    return gojson.dumps(slots.read(context.config))


def _attach(context: "Context", storage: "Storage", folder: str, options: Options) -> None:
    """The tiered part with its sentinel, which is listed nowhere: the backup exists once its own sentinel does."""
    from walg_redis.backup.trees import store_tree

    part = store_tree(context, storage, f"{folder}{ATTACHED}/", options.ts_backup)
    name = folder.removeprefix(FOLDER) + ATTACHED
    done = Pushed(name, part.start_ns, times.now(), part.plain, part.stored)
    values = tiered_sentinel(done, options.marks.permanent, options.ts_backup_id, options.ts_backup, part.files)
    storage.put_bytes(f"{FOLDER}{name}{SENTINEL_SUFFIX}", gojson.dumps(values))


def _push_tiered(context: "Context", options: Options) -> str:
    from walg_redis.backup.trees import store_tree

    counts = [0]

    def body(storage: "Storage", folder: str) -> tuple[int, int]:
        part = store_tree(context, storage, folder, options.ts_backup)
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


def _open_rdb(context: "Context") -> tuple[Reader, Facts | None]:
    """The RDB, and what the server tells where it is asked over the same connection."""
    config = context.config
    text = config.get(CREATE)
    if text and text.strip():
        from walg_core.streams.commands import CommandReader

        return CommandReader(text, extra=command_environment(config)), None
    if text is not None:
        raise ConfigError(f"{CREATE} not configured: it is empty", hint="unset it to back up without a command")
    from walg_redis.backup.replication import RdbTail, ReplicationReader
    from walg_redis.resp import Connection

    server = Connection(address(config))
    try:
        found = facts_of(server)
        return RdbTail(ReplicationReader(server)), found
    except BaseException:
        server.close()
        raise
