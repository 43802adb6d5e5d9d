"""Any fsspec file system as a storage: `WALG_FSSPEC_PREFIX=PROTOCOL://path`, options in `WALG_FSSPEC_OPTIONS`.

Caches are off. A put is all or nothing: object stores get a write that is committed or discarded, everything else a
temporary name that is moved into place. What fsspec cannot promise is durability on a local disk (it never syncs): use
`WALG_FILE_PREFIX` there.
"""

import contextlib
import io
import threading
import time

from walg_core.errors import (
    AccessDenied,
    ConfigError,
    IntegrityError,
    MissingPlugin,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    StorageError,
    TransientError,
    WalgError,
)
from walg_core.io.atomic import is_temporary, temporary_name
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK, BytesReader, Reader
from walg_core.storage.api import Capabilities, ObjectInfo, Storage
from walg_core.storage.keys import check_key, check_prefix, key_problem
from walg_core.storage.local import translate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from walg_core.settings.config import Config

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_NOT_A_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def create(config: "Config", prefix: str) -> "FsspecStorage":
    """The storage of `WALG_FSSPEC_PREFIX`. Raises ConfigError, MissingPlugin for a protocol that is not installed."""
    protocol, separator, _ = prefix.partition("://")
    if not separator or not protocol:
        raise ConfigError(f"WALG_FSSPEC_PREFIX is '{prefix}', which is not of the form PROTOCOL://path")
    import fsspec

    options = config.get("WALG_FSSPEC_OPTIONS") or {}
    try:
        system = fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError as error:
        raise MissingPlugin(f"WALG_FSSPEC_PREFIX: the protocol '{protocol}' needs a package: {error}") from error
    except ValueError as error:
        raise ConfigError(f"WALG_FSSPEC_PREFIX: {error}", hint="`python -c 'import fsspec; ...'` lists them") from error
    return FsspecStorage(system, str(system._strip_protocol(prefix)), prefix)


class FsspecStorage(Storage):
    """Objects are files below `root` of `system`; folders without objects are removed."""

    def __init__(self, system: "Any", root: str, description: str = "") -> None:
        self._system = system
        self._root = root.rstrip("/")
        self.description = description or f"{system.protocol}:{root}"
        # Asynchronous implementations are the object stores; they are safe for threads and have no real folders.
        self._object_store = bool(getattr(system, "async_impl", False))
        self._lock: Any = contextlib.nullcontext() if self._object_store else threading.RLock()
        self.capabilities = Capabilities(keys_may_nest=self._object_store, server_side_copy=self._object_store)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextlib.contextmanager
    def _calling(self, key: str, doing: str) -> "Iterator[None]":
        """One call of the file system: serialised where it must be, its errors translated."""
        try:
            with self._lock:
                yield
        except WalgError:
            raise
        except _NOT_A_FILE as error:
            raise ObjectNotFound(key) from error
        except PermissionError as error:
            raise AccessDenied(f"{doing} '{key}': {error}", key=key) from error
        except (ConnectionError, TimeoutError) as error:
            raise TransientError(f"{doing} '{key}': {type(error).__name__}: {error}", key=key) from error
        except OSError as error:
            raise translate(error, key, doing) from error
        except Exception as error:
            raise PermanentError(f"{doing} '{key}': {type(error).__name__}: {error}", key=key) from error

    # Reading.

    def _entries(self, prefix: str) -> "Sequence[tuple[str, dict[str, Any]]]":
        """Names (folders with a final slash) in the order of their whole keys."""
        path = self._path(prefix).rstrip("/")
        try:
            with self._calling(prefix, "list folder"):
                found = self._system.ls(path or "/", detail=True)
        except ObjectNotFound:
            return []
        out = []
        for info in found:
            whole = str(info["name"]).rstrip("/")
            name = whole.rpartition("/")[2]
            if whole.strip("/") == path.strip("/") or is_temporary(name):
                continue
            problem = key_problem(prefix + name)
            if problem:
                log.warning(f"a file is left out of the listing, {prefix + name!r} cannot be an object: {problem}")
            else:
                out.append((name + "/" if info["type"] == "directory" else name, info))
        out.sort(key=lambda pair: pair[0])
        return out

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        return self._walk(check_prefix(prefix), start_after or "")

    def _walk(self, prefix: str, start_after: str) -> "Iterator[ObjectInfo]":
        for name, info in self._entries(prefix):
            key = prefix + name
            if name.endswith("/"):
                if key > start_after or start_after.startswith(key):
                    yield from self._walk(key, start_after)
            elif key > start_after:
                yield _describe(key, info)

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return [prefix + name for name, _ in self._entries(check_prefix(prefix)) if name.endswith("/")]

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        for name, info in self._entries(check_prefix(prefix)):
            if not name.endswith("/"):
                yield _describe(prefix + name, info)

    def stat(self, key: str) -> ObjectInfo:
        check_key(key)
        with self._calling(key, "stat"):
            info = self._system.info(self._path(key))
        if info["type"] != "file":
            raise ObjectNotFound(key)
        return _describe(key, info)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        check_key(key)
        with self._calling(key, "open"):
            file = self._system.open(self._path(key), "rb")
            if isinstance(file, io.BytesIO):
                # The memory file system hands out the object itself, with one position for all readers.
                end = None if length is None else offset + length
                return BytesReader(file.getvalue()[offset:end])
            size = int(file.size) if hasattr(file, "size") else int(self._system.info(self._path(key))["size"])
            left = max(0, size - offset)
            if left and offset:
                file.seek(offset)
        return _FsspecReader(self, file, key, left if length is None else min(left, length))

    # Writing.

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        check_key(key)
        if is_temporary(key):
            raise PermanentError(f"object name '{key}' is refused: it has the form of temporary names", key=key)
        if if_absent and self.exists(key):
            raise ObjectExists(key)
        try:
            return self._commit_or_discard(key, body, size) if self._object_store else self._move(key, body, size)
        except ObjectNotFound as error:
            raise PermanentError(
                f"put '{key}': its folder cannot be made, or a part of it is an object", key=key
            ) from error

    def _commit_or_discard(self, key: str, body: Reader, size: int | None) -> int:
        with self._calling(key, "put"):
            file = self._system.open(self._path(key), "wb", autocommit=False)
        try:
            stored = self._copy(body, file, key, size)
            with self._calling(key, "put"):
                file.close()
                file.commit()
        except BaseException:
            # Closing would complete the upload: the file is declared closed first, then its parts are thrown away.
            file.closed = True
            with contextlib.suppress(Exception):
                file.discard()
            raise
        return stored

    def _move(self, key: str, body: Reader, size: int | None) -> int:
        folder, _, name = self._path(key).rpartition("/")
        temporary = f"{folder}/{temporary_name(name)}"
        file = self._open_temporary(key, folder, temporary)
        try:
            try:
                stored = self._copy(body, file, key, size)
            finally:
                with self._calling(key, "put"):
                    file.close()
            with self._calling(key, "put"):
                if self._system.isdir(self._path(key)):
                    raise PermanentError(f"put '{key}': a folder of that name exists", key=key)
                self._rename(temporary, self._path(key))
        except BaseException:
            with contextlib.suppress(Exception), self._lock:
                self._system.rm_file(temporary)
            self._remove_empty(key)
            raise
        return stored

    def _rename(self, source: str, target: str) -> None:
        """The generic `mv` of fsspec takes names for patterns; an implementation's own does not."""
        from fsspec import AbstractFileSystem

        if type(self._system).mv is not AbstractFileSystem.mv:
            self._system.mv(source, target)
            return
        self._system.cp_file(source, target)
        self._system.rm_file(source)

    def _open_temporary(self, key: str, folder: str, temporary: str) -> "Any":
        """A delete may remove the folder, as empty, between its making and its first file."""
        for attempt in range(20):
            try:
                with self._calling(key, "put"):
                    self._system.makedirs(folder, exist_ok=True)
                    return self._system.open(temporary, "wb")
            except ObjectNotFound:
                if attempt == 19:
                    raise
                time.sleep(0.01)
        raise AssertionError("unreachable")

    def _copy(self, body: Reader, file: "Any", key: str, size: int | None) -> int:
        stored = 0
        while piece := body.read(CHUNK):
            with self._calling(key, "put"):
                file.write(piece)
            stored += len(piece)
        if size is not None and stored != size:
            raise IntegrityError(f"put '{key}': the body has {stored} bytes, {size} were announced; nothing was stored")
        return stored

    def delete(self, keys: "Iterable[str]") -> None:
        for key in keys:
            check_key(key)
            try:
                with self._calling(key, "delete"):
                    if not self._object_store and self._system.isdir(self._path(key)):
                        continue
                    self._system.rm_file(self._path(key))
            except ObjectNotFound:
                continue
            self._remove_empty(key)

    def _remove_empty(self, key: str) -> None:
        folder = key.rpartition("/")[0]
        while folder and not self._object_store:
            with self._lock:
                try:
                    self._system.rmdir(self._path(folder))
                except OSError:
                    return
            folder = folder.rpartition("/")[0]

    def copy(self, source: str, target: str) -> None:
        check_key(source)
        check_key(target)
        if not self._object_store:
            super().copy(source, target)
            return
        with self._calling(source, "copy"):
            self._system.cp_file(self._path(source), self._path(target))


def _describe(key: str, info: "dict[str, Any]") -> ObjectInfo:
    moment = next((info[name] for name in _TIMES if info.get(name) is not None), 0.0)
    if isinstance(moment, str):
        from datetime import datetime

        moment = datetime.fromisoformat(moment)
    return ObjectInfo(
        key, int(info["size"] or 0), float(moment.timestamp() if hasattr(moment, "timestamp") else moment)
    )


class _FsspecReader:
    """At most `left` bytes of an open file; an early end raises TransientError."""

    def __init__(self, storage: FsspecStorage, file: "Any", key: str, left: int) -> None:
        self._storage = storage
        self._file = file
        self._key = key
        self._left = left

    def read(self, size: int = -1, /) -> bytes:
        if self._left <= 0 or size == 0:
            return b""
        want = min(self._left, CHUNK if size < 0 else size)
        try:
            piece: bytes = self._file.read(want)
        except (ConnectionError, TimeoutError) as error:
            raise TransientError(f"read '{self._key}': {error}", key=self._key) from error
        except OSError as error:
            raise translate(error, self._key, "read") from error
        except Exception as error:
            raise StorageError(f"read '{self._key}': {type(error).__name__}: {error}", key=self._key) from error
        if not piece:
            raise TransientError(f"object '{self._key}' ended {self._left} bytes too early", key=self._key)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._file.close()
