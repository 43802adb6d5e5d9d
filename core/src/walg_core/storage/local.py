"""The local file system as a storage (spec/storages.md 4.1): `WALG_FILE_PREFIX=/dir`, optionally `file://localhost/dir`.

Every put is durable and atomic (`walg_core.io.atomic`). Reading never creates directories, a missing directory is
empty, emptied directories go with their last object. On the cold path: imports nothing that costs.
"""

import errno
import os
import stat as modes

from walg_core.errors import (
    AccessDenied,
    ConfigError,
    NoSpace,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    StorageError,
    TransientError,
)
from walg_core.io.atomic import AtomicFile, is_temporary, make_dirs, remove, remove_empty_dirs, sync_dir
from walg_core.pipeline.reader import CHUNK, Reader
from walg_core.storage.api import Capabilities, ObjectInfo, Storage
from walg_core.storage.keys import check_key, check_prefix, key_problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from walg_core.settings.config import Config

_DENIED = (errno.EACCES, errno.EPERM)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PASSING = (errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT)
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def create(_config: "Config", prefix: str) -> "LocalStorage":
    """The storage of `WALG_FILE_PREFIX`. Raises ConfigError when the directory is not there (never creates it)."""
    path = prefix
    for scheme in ("file://localhost", "file://"):
        if path.startswith(scheme + "/"):
            path = path[len(scheme) :]
            break
    return LocalStorage(path)


def translate(error: OSError, key: str, doing: str) -> StorageError:
    """The StorageError that an OSError amounts to."""
    number = error.errno
    where = f" ({error.filename})" if error.filename else ""
    text = f"{doing} '{key}': {error.strerror or error}{where}"
    if number in _ABSENT:
        return ObjectNotFound(key)
    if number in _FULL:
        return NoSpace(text, key=key, hint="free space or raise the quota; nothing partial was left behind")
    if number in _DENIED:
        return AccessDenied(text, key=key, hint="check the owner and mode of the directory and the user running wal-g")
    if number in _PASSING:
        return TransientError(text, key=key)
    return PermanentError(text, key=key)


class LocalStorage(Storage):
    """Objects are files below `root`, folders are directories.

    Objects and directories are never more open than `root` itself, and never writable by everybody, whatever the
    umask says.
    """

    remote = False
    file_system = True
    capabilities = Capabilities(put_if_absent=True, keys_may_nest=False)

    def __init__(self, root: str, name: str = "default") -> None:
        self.name = name
        self.root = os.path.abspath(root) if root else ""
        self.description = f"file://{self.root}"
        try:
            found = os.stat(self.root)
        except OSError as error:
            raise ConfigError(
                f"the directory {root!r} of the file storage is not accessible: {error.strerror}",
                hint="create it, mount it, or correct WALG_FILE_PREFIX; wal-g does not create the root itself",
            ) from error
        if not modes.S_ISDIR(found.st_mode):
            raise ConfigError(f"{root!r} of the file storage is not a directory", hint="correct WALG_FILE_PREFIX")
        self._dir_mode = found.st_mode & 0o775 | 0o700
        self._file_mode = self._dir_mode & 0o666

    def identity(self) -> str:
        from walg_core.storage.identity import go_json

        return "fs" + go_json({"RootPath": self.root})

    # Reading.

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        return self._walk(check_prefix(prefix), start_after or "")

    def _walk(self, prefix: str, start_after: str) -> "Iterator[ObjectInfo]":
        for name, entry in self._entries(prefix):
            key = prefix + name
            if name.endswith("/"):
                if key > start_after or start_after.startswith(key):
                    yield from self._walk(key, start_after)
            elif key > start_after:
                info = _info(key, entry)
                if info:
                    yield info

    def _entries(self, prefix: str) -> "Sequence[tuple[str, os.DirEntry[str]]]":
        """Names (directories with a final slash) sorted so that whole keys come out in byte order."""
        out = []
        try:
            with os.scandir(self._path(prefix)) as entries:
                for entry in entries:
                    problem = key_problem(prefix + entry.name)
                    if problem:
                        _warn_of(prefix + entry.name, problem)
                    elif entry.is_dir():
                        out.append((entry.name + "/", entry))
                    elif not is_temporary(entry.name):
                        out.append((entry.name, entry))
        except OSError as error:
            if error.errno in _ABSENT and prefix:
                return []
            raise _listing_error(error, prefix) from error
        out.sort(key=_first)
        return out

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return [prefix + name for name, _ in self._entries(check_prefix(prefix)) if name.endswith("/")]

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        for name, entry in self._entries(check_prefix(prefix)):
            if not name.endswith("/"):
                info = _info(prefix + name, entry)
                if info:
                    yield info

    def stat(self, key: str) -> ObjectInfo:
        try:
            found = os.stat(self._path(check_key(key)))
        except OSError as error:
            raise self._failure(error, key, "stat") from error
        if not modes.S_ISREG(found.st_mode):
            raise self._missing(key)
        return _describe(key, found)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        try:
            fd = os.open(self._path(check_key(key)), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._failure(error, key, "open") from error
        try:
            found = os.fstat(fd)
            if not modes.S_ISREG(found.st_mode):
                raise self._missing(key)
            size = max(0, found.st_size - offset)
            reader = _FileReader(fd, key, offset, size if length is None else min(size, length))
        except BaseException:
            os.close(fd)
            raise
        return reader

    # Writing.

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        path = self._path(check_key(key))
        if is_temporary(path):
            raise PermanentError(f"object name '{key}' is refused: it has the form of temporary names", key=key)
        try:
            with self._create(path, if_absent) as file:
                _copy(body, file, key, size)
        except BaseException as error:
            # The folders that were made for it go with it.
            remove_empty_dirs(os.path.dirname(path), self.root)
            if isinstance(error, FileExistsError):
                raise ObjectExists(key) from error
            if isinstance(error, OSError):
                raise _writing_error(error, key) from error
            raise
        return file.size

    def _create(self, path: str, exclusive: bool) -> AtomicFile:
        if exclusive and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        for _ in range(100):
            try:
                return AtomicFile(path, exclusive=exclusive, at_most=self._file_mode)
            except FileNotFoundError:
                if not os.path.isdir(self.root):
                    raise
            # No directory yet, or a delete has just removed it as empty, and may do so again while it is being made.
            try:
                make_dirs(os.path.dirname(path), self._dir_mode)
            except FileNotFoundError:
                continue
        raise TransientError(f"the folder of {path} is removed as fast as it is made")

    def delete(self, keys: "Iterable[str]") -> None:
        parents: set[str] = set()
        try:
            for key in keys:
                path = self._path(check_key(key))
                try:
                    os.unlink(path)
                except OSError as error:
                    if error.errno in _ABSENT or os.path.isdir(path):
                        continue
                    raise translate(error, key, "delete") from error
                parents.add(os.path.dirname(path))
        finally:
            for parent in {remove_empty_dirs(each, self.root) for each in parents}:
                try:
                    sync_dir(parent)
                except FileNotFoundError:
                    # Another delete has removed it meanwhile; its entries are gone with it.
                    continue

    def temporaries(self, older_than: float) -> "Iterator[str]":
        """Names below the root of temporary files last written before `older_than` (a Unix time): left by a crash."""
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(directory, name)
                if is_temporary(name) and os.lstat(path).st_mtime < older_than:
                    yield os.path.relpath(path, self.root)

    def sweep(self, names: "Iterable[str]") -> None:
        """Delete temporary files by the names that `temporaries` gave; any other name is refused."""
        for name in names:
            if not is_temporary(name) or key_problem(name):
                raise PermanentError(f"'{name}' is no temporary file of this storage", key=name)
            remove(self._path(name))

    def _failure(self, error: OSError, key: str, doing: str) -> StorageError:
        return self._missing(key) if error.errno in _ABSENT else translate(error, key, doing)

    def _missing(self, key: str) -> ObjectNotFound:
        """Names the whole path, as the original does."""
        error = ObjectNotFound(self._path(key))
        error.key = key
        return error

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"


def _first(pair: "tuple[str, object]") -> str:
    return pair[0]


def _info(key: str, entry: "os.DirEntry[str]") -> ObjectInfo | None:
    """None for what vanished since the directory was read, and for what is no regular file."""
    try:
        found = entry.stat()
    except OSError as error:
        if error.errno in (*_ABSENT, errno.ELOOP):
            return None
        raise translate(error, key, "stat") from error
    return _describe(key, found) if modes.S_ISREG(found.st_mode) else None


def _describe(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, found.st_mtime_ns / 1e9, nanoseconds=found.st_mtime_ns)


def _warn_of(key: str, problem: str) -> None:
    from walg_core.observe import log

    log.warning(f"a file is left out of the listing, its name {key!r} cannot be an object's: {problem}")


def _listing_error(error: OSError, prefix: str) -> StorageError:
    if error.errno in _ABSENT:
        return PermanentError(
            f"the file storage's root directory has gone: {error.filename}", hint="is its file system mounted?"
        )
    return translate(error, prefix, "list folder")


def _writing_error(error: OSError, key: str) -> StorageError:
    if error.errno == errno.ENOTDIR:
        return PermanentError(f"put '{key}': a part of its path is an object, not a folder", key=key)
    if error.errno in (errno.EISDIR, errno.ENOTEMPTY):
        return PermanentError(f"put '{key}': a folder of that name exists", key=key)
    if error.errno in _ABSENT:
        return _listing_error(error, key)
    return translate(error, key, "put")


def _copy(body: Reader, file: AtomicFile, key: str, size: int | None) -> None:
    while piece := body.read(CHUNK):
        file.write(piece)
    if size is not None and file.size != size:
        from walg_core.errors import IntegrityError

        raise IntegrityError(f"put '{key}': the body has {file.size} bytes, {size} were announced; nothing was stored")


class _FileReader:
    """At most `length` bytes of a file from `offset`; a file that ends before raises TransientError."""

    __slots__ = ("_at", "_fd", "_key", "_left")

    def __init__(self, fd: int, key: str, offset: int, length: int) -> None:
        self._fd = fd
        self._key = key
        self._at = offset
        self._left = length

    def read(self, size: int = -1, /) -> bytes:
        if self._left <= 0 or size == 0:
            return b""
        want = min(self._left, CHUNK if size < 0 else size)
        try:
            piece = os.pread(self._fd, want, self._at)
        except OSError as error:
            raise translate(error, self._key, "read") from error
        if not piece:
            raise TransientError(f"object '{self._key}' ended {self._left} bytes too early", key=self._key)
        self._at += len(piece)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
