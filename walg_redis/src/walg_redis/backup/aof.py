"""The payload of an `aof` backup: the files of a multi-part AOF, pinned and packed (spec/redis.md 3.4)."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from walg_core.errors import EngineError, WalgError
from walg_core.io.atomic import is_temporary, write_file

from walg_redis.backup import manifest
from walg_redis.backup.disk import DiskWatcher
from walg_redis.backup.pins import Pinned, held, pin, release
from walg_redis.backup.tars import pack
from walg_redis.connection import address, info
from walg_redis.resp import Connection

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

_TRIES = 20
_PLACE = "WALG_REDIS_APPENDONLY_TEMP_MANIFEST"


def server_version(context: Context) -> str:
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
        server = Connection(address(config))
        try:
            told = info(server, "server")
        finally:
            server.close()
        return told.get("valkey_version") or told["redis_version"]
    except (WalgError, KeyError) as error:
        raise EngineError(
            f"the server's version cannot be told: {program} --version: {why}; INFO: {error}",
            hint="set WALG_REDIS_SERVER_PROCESS_NAME to the server's program",
        ) from error


def store_aof(context: Context, storage: Storage, folder: str) -> tuple[int, int]:
    """Pin and pack the AOF; returns the plain and the stored size. Raises EngineError, IntegrityError, StorageError."""
    config = context.config
    watcher = DiskWatcher(config)
    directory = os.path.join(config.get("WALG_REDIS_DATA_PATH"), config.get("WALG_REDIS_APPENDONLY_PATH"))
    name = config.get("WALG_REDIS_APPENDONLY_MANIFEST")
    place = config.get(_PLACE)
    if os.path.realpath(place) == os.path.realpath(directory):
        raise EngineError(f"{_PLACE} is the AOF directory itself", hint="name a directory beside it")
    prefix = name.removesuffix(".manifest") + "."

    def is_ours(each: str) -> bool:
        return is_temporary(each) or (each.startswith(prefix) and each.endswith((".rdb", ".aof", ".manifest")))

    with held(place, _PLACE, is_ours):
        pinned = _pin_aof(directory, name, place)
        try:
            return pack(context, storage, folder, pinned, watcher.check)
        finally:
            release(pinned)


def _pin_aof(directory: str, name: str, folder: str) -> list[Pinned]:
    """The manifest's copy and the files it names. A rewrite in between takes files away: then all over again."""
    for attempt in range(_TRIES):
        data = _read_manifest(os.path.join(directory, name))
        files = manifest.parse(data, os.path.join(directory, name))
        present = [each for each in files if each.kind != "h" or os.path.exists(os.path.join(directory, each.name))]
        try:
            pinned = pin([(os.path.join(directory, each.name), each.name) for each in present], folder, _PLACE)
        except EngineError:
            if attempt + 1 < _TRIES and _read_manifest(os.path.join(directory, name)) != data:
                continue
            raise
        copy = os.path.join(folder, name)
        try:
            write_file(copy, data, mode=0o644)
        except BaseException:
            release(pinned)
            raise
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
