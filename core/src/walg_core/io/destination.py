"""An extraction root: everything below it is reached by directory descriptors, nothing outside it, whatever is asked.

Names are split into components once (`components`), each directory on the way is opened relative to its parent with
`O_NOFOLLOW | O_DIRECTORY`, so neither a stored name, nor a link that an archive planted, nor a directory swapped
for a link while the restore runs can lead out. Other roots (a tablespace's location) can be mounted at a directory.

Durability: data is written in place (the destination is not visible as a database before its caller says so), and
`sync` makes everything written so far durable: files first, then directories bottom-up.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections import OrderedDict
from types import TracebackType

from walg_core.errors import IntegrityError
from walg_core.io.atomic import is_temporary, make_dirs, sync_file, temporary_name

Parts = tuple[bytes, ...]

NAME_LIMIT = 4096
"""Bytes of a whole name; longer ones are refused."""
_COMPONENT_LIMIT = 255
_DEPTH_LIMIT = 128
_OPEN_DIRECTORIES = 24
_LIBRARY = ctypes.CDLL(None, use_errno=True) if os.uname().sysname == "Linux" else None
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafeName(IntegrityError):
    """A stored name would leave the destination or cannot be a file name. Nothing was written for it."""


def components(name: bytes | str) -> Parts:
    """The components of a stored name; a leading slash, `.` and empty components are dropped; () is the root.

    Raises UnsafeName for `..`, zero bytes, and components or names longer than file systems hold.
    """
    raw = os.fsencode(name) if isinstance(name, str) else name
    shown = os.fsdecode(raw[:200])
    if len(raw) > NAME_LIMIT:
        raise UnsafeName(f"the name {shown!r}… of {len(raw)} bytes is too long for a file")
    if b"\0" in raw:
        raise UnsafeName(f"the name {shown!r} has a zero byte")
    parts = tuple(part for part in raw.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise UnsafeName(f"the name {shown!r} leads out of the destination; nothing was written for it")
    if len(parts) > _DEPTH_LIMIT or any(len(part) > _COMPONENT_LIMIT for part in parts):
        raise UnsafeName(f"the name {shown!r} has a component that is too long, or too many of them")
    return parts


def show(parts: Parts) -> str:
    """The components as a readable relative path."""
    return os.fsdecode(b"/".join(parts)) or "."


class Destination:
    """A directory to restore into. Thread-safe: each thread keeps a few directory descriptors of its own.

    `mode` is that of the directory when it has to be created (its parents: 0755 & ~umask). Modes given to
    `make_dir` are applied by `finish`, so that a read-only directory can still be filled. Raises OSError with the
    full path, UnsafeName, and IntegrityError where the archive contradicts itself (a file in a file's place).
    """

    def __init__(self, path: str, *, mode: int = 0o700, fsync: bool = True) -> None:
        self.path = os.path.realpath(path)
        self.created = not os.path.isdir(self.path)
        if self.created:
            make_dirs(os.path.dirname(self.path))
            os.mkdir(self.path, mode)
            os.chmod(self.path, mode)
            _sync_path(os.path.dirname(self.path))
        self._root = os.open(self.path, _DIRECTORY)
        self._fsync = fsync
        self._each_file = fsync and not _has_syncfs()
        self._local = threading.local()
        self._all: list[OrderedDict[Parts, int]] = []
        self._lock = threading.Lock()
        self._modes: dict[Parts, int] = {}
        self._changed: set[Parts] = set()
        self._mounts: dict[Parts, Destination] = {}

    # Other roots.

    def mount(self, parts: Parts, root: Destination) -> None:
        """Let everything below the directory `parts` go to `root` instead. Closed and synced together with this one."""
        self._mounts[parts] = root

    def _place(self, parts: Parts) -> tuple[Destination, Parts]:
        for at, root in self._mounts.items():
            if parts[: len(at)] == at:
                return root, parts[len(at) :]
        return self, parts

    # Directories.

    def _cache(self) -> OrderedDict[Parts, int]:
        cache: OrderedDict[Parts, int] | None = getattr(self._local, "directories", None)
        if cache is None:
            cache = self._local.directories = OrderedDict()
            with self._lock:
                self._all.append(cache)
        return cache

    def _open_dir(self, parts: Parts, create: int | None) -> int:
        """A descriptor of the directory, owned by this thread's cache; missing ones are made with mode `create`."""
        if not parts:
            return self._root
        cache = self._cache()
        fd = cache.get(parts)
        if fd is not None:
            cache.move_to_end(parts)
            return fd
        parent = self._open_dir(parts[:-1], create)
        fd = self._open_component(parent, parts, create)
        cache[parts] = fd
        while len(cache) > _OPEN_DIRECTORIES:
            oldest = next(each for each in cache if each != parts)
            os.close(cache.pop(oldest))
        return fd

    def _open_component(self, parent: int, parts: Parts, create: int | None) -> int:
        name = parts[-1]
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if create is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._full(parts)) from None
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise OSError(error.errno, error.strerror, self._full(parts)) from error
            raise IntegrityError(
                f"{self._full(parts)} is not a directory (a link or a file is in its place); not followed"
            ) from None
        try:
            os.mkdir(name, create | 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._full(parts)) from error
        self._changed.add(parts[:-1])
        self._changed.add(parts)
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        # Whatever the umask: a directory that a server cannot enter is of no use to it.
        os.fchmod(fd, create | 0o700)
        return fd

    def make_dir(self, parts: Parts, mode: int | None = None, *, parents: int = 0o750) -> None:
        """Make a directory and its parents; `mode` is set by `finish`. One that exists is fine."""
        root, rest = self._place(parts)
        if root is not self:
            return root.make_dir(rest, mode, parents=parents)
        self._open_dir(parts, parents)
        if mode is not None:
            self._modes[parts] = mode
        return None

    # Files.

    def create(self, parts: Parts, mode: int, *, parents: int = 0o750) -> int:
        """A descriptor to write a fresh file: whatever file or link had the name is unlinked, never written through.

        The caller passes it to `close_file`. `mode` is exact. Raises IntegrityError where a directory is.
        """
        root, rest = self._place(parts)
        if root is not self:
            return root.create(rest, mode, parents=parents)
        if not parts:
            raise UnsafeName("a file has the name of the destination itself")
        directory = self._open_dir(parts[:-1], parents)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            try:
                fd = os.open(parts[-1], flags, 0o600, dir_fd=directory)
            except FileExistsError:
                os.unlink(parts[-1], dir_fd=directory)
                fd = os.open(parts[-1], flags, 0o600, dir_fd=directory)
        except IsADirectoryError:
            raise IntegrityError(f"a file's place is taken by the directory {self._full(parts)}") from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._full(parts)) from error
        os.fchmod(fd, mode & 0o777)
        self._changed.add(parts[:-1])
        return fd

    def open_file(self, parts: Parts, *, write: bool = True) -> int:
        """A descriptor of an existing regular file with one name. FileNotFoundError; IntegrityError for other kinds."""
        root, rest = self._place(parts)
        if root is not self:
            return root.open_file(rest, write=write)
        if not parts:
            raise UnsafeName("a file has the name of the destination itself")
        directory = self._open_dir(parts[:-1], None)
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(parts[-1], flags, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise IntegrityError(f"{self._full(parts)} is not a regular file; not followed") from None
            raise OSError(error.errno, error.strerror, self._full(parts)) from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or (write and found.st_nlink != 1):
            os.close(fd)
            raise IntegrityError(f"{self._full(parts)} is not a regular file with a single name; not written to")
        return fd

    def close_file(self, fd: int) -> None:
        """Close a descriptor of `create` or `open_file`; durable after the next `sync`."""
        try:
            if self._each_file:
                sync_file(fd)
            elif self._fsync:
                start_writeback(fd)
        finally:
            os.close(fd)

    def write_file(self, parts: Parts, data: bytes, mode: int = 0o600) -> None:
        """A small file, whole and durable or not at all."""
        root, rest = self._place(parts)
        if root is not self:
            return root.write_file(rest, data, mode)
        directory = self._open_dir(parts[:-1], 0o750)
        temporary = os.fsencode(temporary_name(os.fsdecode(parts[-1])))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600, dir_fd=directory)
        try:
            try:
                write_all(fd, data, self._full(parts))
                os.fchmod(fd, mode & 0o777)
                if self._fsync:
                    sync_file(fd)
            finally:
                os.close(fd)
            os.rename(temporary, parts[-1], src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(temporary, dir_fd=directory)
            raise
        if self._fsync:
            sync_file(directory)
        return None

    def read_file(self, parts: Parts, limit: int = 1 << 20) -> bytes | None:
        """At most `limit` bytes of a regular file, None when it is missing."""
        try:
            fd = self.open_file(parts, write=False)
        except FileNotFoundError:
            return None
        try:
            return os.read(fd, limit)
        finally:
            os.close(fd)

    def remove(self, parts: Parts) -> None:
        """Delete a file durably; one that is missing is fine."""
        root, rest = self._place(parts)
        if root is not self:
            return root.remove(rest)
        directory = self._open_dir(parts[:-1], None)
        try:
            os.unlink(parts[-1], dir_fd=directory)
        except FileNotFoundError:
            return None
        if self._fsync:
            sync_file(directory)
        return None

    def remove_dir(self, parts: Parts) -> bool:
        """Delete an empty directory; False, and nothing done, when it has entries. One that is missing is fine."""
        root, rest = self._place(parts)
        if root is not self:
            return root.remove_dir(rest) if rest else False
        try:
            directory = self._open_dir(parts[:-1], None)
            os.rmdir(parts[-1], dir_fd=directory)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise OSError(error.errno, error.strerror, self._full(parts)) from error
        fd = self._cache().pop(parts, None)
        if fd is not None:
            os.close(fd)
        self._changed.discard(parts)
        self._changed.add(parts[:-1])
        return True

    def replace(self, source: Parts, target: Parts) -> None:
        """Give a file another name, in place of what has it; durable after the next `sync`.

        Both are under one root. Raises IntegrityError where a directory is.
        """
        root, rest = self._place(source)
        if root is not self:
            return root.replace(rest, root._below(self, target))
        old, new = self._open_dir(source[:-1], None), self._open_dir(target[:-1], None)
        try:
            os.rename(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new)
        except IsADirectoryError:
            raise IntegrityError(f"a file's place is taken by the directory {self._full(target)}") from None
        self._changed |= {source[:-1], target[:-1]}
        return None

    def _below(self, outer: Destination, parts: Parts) -> Parts:
        """The place of `parts` of `outer` under this root, which is mounted there."""
        root, rest = outer._place(parts)
        if root is not self:
            raise UnsafeName(f"{show(parts)} is under another root")
        return rest

    def remove_leftovers(self, parts: Parts) -> None:
        """Remove what an interrupted `write_file` of this name has left beside it."""
        prefix = os.fsdecode(parts[-1]) + ".tmp."
        try:
            directory = self._open_dir(parts[:-1], None)
        except FileNotFoundError:
            return
        for name in os.listdir(directory):
            if name.startswith(prefix) and is_temporary(name):
                os.unlink(os.fsencode(name), dir_fd=directory)

    def symlink(self, parts: Parts, target: str) -> None:
        """A link that the caller has decided on (never an archive); the same link existing already is fine."""
        directory = self._open_dir(parts[:-1], 0o700)
        try:
            os.symlink(os.fsencode(target), parts[-1], dir_fd=directory)
        except FileExistsError:
            if self.read_link(parts) != target:
                raise IntegrityError(f"{self._full(parts)} exists and is not a link to {target}") from None
        self._changed.add(parts[:-1])

    def read_link(self, parts: Parts) -> str | None:
        """The target of a link, None when there is no link of that name."""
        try:
            return os.fsdecode(os.readlink(parts[-1], dir_fd=self._open_dir(parts[:-1], None)))
        except OSError:
            return None

    def stat(self, parts: Parts) -> os.stat_result | None:
        """`lstat` of an entry, None when it is missing."""
        root, rest = self._place(parts)
        if root is not self:
            return root.stat(rest)
        if not parts:
            return os.fstat(self._root)
        try:
            return os.stat(parts[-1], dir_fd=self._open_dir(parts[:-1], None), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def entries(self) -> list[str]:
        """Names directly in the root."""
        return os.listdir(self._root)

    def free_bytes(self) -> int:
        """Space that an unprivileged writer has left on the root's file system."""
        found = os.fstatvfs(self._root)
        return found.f_bavail * found.f_frsize

    # Durability.

    def sync(self) -> None:
        """Make everything written so far durable, here and in the mounted roots."""
        for root in self._mounts.values():
            root.sync()
        if not self._fsync:
            return
        if not self._each_file:
            self._changed.clear()
            _sync_file_system(self._root)
            return
        changed, self._changed = self._changed, set()
        for parts in sorted(changed, key=lambda each: (-len(each), each)):
            sync_file(self._open_dir(parts, None))

    def finish(self) -> None:
        """Apply the directories' modes, deepest first, and `sync`."""
        for parts, mode in sorted(self._modes.items(), key=lambda each: -len(each[0])):
            os.fchmod(self._open_dir(parts, None), mode & 0o777)
            self._changed.add(parts)
        for root in self._mounts.values():
            root.finish()
        self.sync()

    def close(self) -> None:
        """Close every descriptor, those of mounted roots too. Idempotent."""
        for root in self._mounts.values():
            root.close()
        with self._lock:
            caches, self._all = self._all, []
        for cache in caches:
            while cache:
                os.close(cache.popitem()[1])
        self._local = threading.local()
        root_fd, self._root = self._root, -1
        if root_fd >= 0:
            os.close(root_fd)

    def __enter__(self) -> Destination:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _full(self, parts: Parts) -> str:
        return os.path.join(self.path, show(parts)) if parts else self.path


def write_all(fd: int, data: bytes | memoryview, path: str, offset: int | None = None) -> None:
    """All of `data` at `offset` (bytes; None: the current position). OSError names the file and the bytes done."""
    view, done = memoryview(data), 0
    while done < len(view):
        try:
            piece = view[done:] if done else view
            done += os.write(fd, piece) if offset is None else os.pwrite(fd, piece, offset + done)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (after {done} of {len(view)} bytes)", path) from error


def start_writeback(fd: int, offset: int = 0, length: int = 0) -> None:
    """Let the kernel begin to write a file's range (bytes; 0: to the end) without waiting, where it can.

    A hint, so that the sync at the end has little left to wait for; it makes nothing durable.
    """
    if _LIBRARY is not None:
        _LIBRARY.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), 2)


def _sync_path(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def _sync_file_system(fd: int) -> None:
    """One `syncfs` instead of an fsync per file; it reports write errors since Linux 5.8. Raises OSError."""
    assert _LIBRARY is not None
    if _LIBRARY.syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _has_syncfs() -> bool:
    """Whether `syncfs` may stand for one fsync per file: Linux of at least 5.8."""
    system = os.uname()
    if _LIBRARY is None or not hasattr(_LIBRARY, "syncfs") or not hasattr(_LIBRARY, "sync_file_range"):
        return False
    numbers = [int(part) for part in system.release.split("-")[0].split(".")[:2] if part.isdigit()]
    return numbers >= [5, 8]
