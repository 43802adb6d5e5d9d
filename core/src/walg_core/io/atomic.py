"""Durable, atomic changes of local files: the only place that renames, fsyncs and sets modes.

Every write goes to a temporary name in the target's directory, is fsynced, renamed, and the directory fsynced; a
crash at any point leaves the old state or the new one. Temporary names have the form of spec/storages.md 1, so that
every WAL-G hides them from listings: the target's name followed by `.tmp.YYYYMMDDTHHMMSSZ-` and 16 hex digits.

Everything here raises OSError; one that happens while writing names the file and how many bytes had been written.
"""

import errno
import os
import stat
import time

from walg_core.pipeline.reader import CHUNK, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

# File systems without the notion answer these to a directory's fsync, where the rename itself is already as durable
# as it gets.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
_NO_LINK = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EOPNOTSUPP)
_STAMP = len(".tmp.YYYYMMDDTHHMMSSZ-")
_TEMPORARY_TAIL = _STAMP + 16
_NAME_MAX = 255


def temporary_name(name: str) -> str:
    """A fresh temporary name beside `name` (a file's last component), shortened when it would be too long."""
    suffix = time.strftime(".tmp.%Y%m%dT%H%M%SZ-", time.gmtime()) + os.urandom(8).hex()
    raw = os.fsencode(name)
    if len(raw) + len(suffix) > _NAME_MAX:
        name = raw[: _NAME_MAX - len(suffix)].decode("utf-8", "ignore")
    return name + suffix


def is_temporary(name: str) -> bool:
    """Whether a file's name ends like those of `temporary_name`; listings hide such files."""
    tail = name[-_TEMPORARY_TAIL:]
    if len(tail) < _TEMPORARY_TAIL or not tail.startswith(".tmp."):
        return False
    date, clock, digits = tail[5:13], tail[14:20], tail[_STAMP:]
    return (
        (tail[13], tail[20], tail[21]) == ("T", "Z", "-")
        and (date + clock).isascii()
        and (date + clock).isdigit()
        and not set(digits) - set("0123456789abcdef")
    )


def sync_file(fd: int) -> None:
    """fsync a file or directory by descriptor; tolerated where the file system has no such notion."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_dir(path: str) -> None:
    """Make the entries of a directory durable."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def _parent(path: str) -> str:
    return os.path.dirname(path) or "."


def make_dirs(path: str, mode: int = 0o755) -> None:
    """Create a directory and its missing parents (`mode` & ~umask), fsyncing every parent that gets a new entry."""
    if os.path.isdir(path):
        return
    missing = [path.rstrip("/") or "/"]
    while not os.path.isdir(_parent(missing[-1])):
        missing.append(_parent(missing[-1]))
    for each in reversed(missing):
        try:
            os.mkdir(each, mode)
        except FileExistsError:
            if not os.path.isdir(each):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), each) from None
        sync_dir(_parent(each))


def rename(source: str, target: str, *, durable: bool = True) -> None:
    """Move a file or directory durably, replacing `target`. The source's own data must be synced already.

    Not `durable`: for what its reader asks for again after a crash.
    """
    os.rename(source, target)
    if not durable:
        return
    sync_dir(_parent(target))
    if _parent(source) != _parent(target):
        sync_dir(_parent(source))


def exchange(first: str, second: str) -> bool:
    """Swap two existing files or directories atomically and durably; False where the system cannot (nothing moved)."""
    import ctypes

    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, both = -100, 2
    if swap(here, os.fsencode(first), here, os.fsencode(second), both):
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise OSError(number, os.strerror(number), first, None, second)
    sync_dir(_parent(first))
    if _parent(first) != _parent(second):
        sync_dir(_parent(second))
    return True


def remove(path: str) -> None:
    """Delete a file durably; one that is missing is fine."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_dir(_parent(path))


def remove_empty_dirs(path: str, stop: str) -> str:
    """Remove the directory `path` and those above it while they are empty, up to but not including `stop`.

    Returns the first directory that stays: the one to sync.
    """
    while len(path) > len(stop) and path.startswith(stop):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError:
            return path
        path = _parent(path)
    return path


class AtomicFile:
    """A file that appears at `path` whole and durable, or not at all.

    As a context manager it commits on a clean exit and aborts on an exception. `mode` is the exact mode of the
    file, None means `at_most` & ~umask. With `exclusive`, an existing `path` raises FileExistsError on commit.
    A device or pipe (`/dev/null`, `/dev/stdout`) is written to as it is: a rename would put a file in its place.
    Not `durable`: whole or absent after any crash of this process, but not after a power failure; only for what its
    reader never trusts then.
    """

    def __init__(
        self,
        path: str,
        mode: int | None = None,
        *,
        exclusive: bool = False,
        at_most: int = 0o666,
        durable: bool = True,
    ) -> None:
        self.path = path
        self.size = 0
        self._durable = durable
        self._exclusive = exclusive
        self._temporary = ""
        if _is_special(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            return
        directory, name = os.path.split(path)
        self._temporary = os.path.join(directory, temporary_name(name))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._temporary, flags, at_most if mode is None else mode)
        if mode is not None:
            try:
                os.fchmod(self._fd, mode)
            except BaseException:
                self.abort()
                raise

    def fileno(self) -> int:
        return self._fd

    def write(self, data: "bytes | bytearray | memoryview") -> int:
        """All of `data`; OSError names the file and the bytes written before."""
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
        length, done = len(view), 0
        while done < length:
            try:
                done += os.write(self._fd, view[done:] if done else view)
            except OSError as error:
                reason = f"{error.strerror} (after {self.size + done} bytes)"
                raise OSError(error.errno, reason, self.path) from error
        self.size += length
        return length

    def commit(self) -> None:
        """fsync, move into place, fsync the directory. On failure nothing is left at the temporary name."""
        fd, self._fd = self._fd, -1
        if not self._temporary:
            os.close(fd)
            return
        try:
            try:
                if self._durable:
                    sync_file(fd)
            finally:
                os.close(fd)
            if self._exclusive:
                _rename_if_absent(self._temporary, self.path)
            else:
                os.rename(self._temporary, self.path)
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError) and not isinstance(error, FileExistsError):
                raise OSError(error.errno, error.strerror, self.path) from error
            raise
        if self._durable:
            sync_dir(_parent(self.path))

    def abort(self) -> None:
        """Forget everything written. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            finally:
                self._discard()

    def _discard(self) -> None:
        if not self._temporary:
            return
        try:
            os.unlink(self._temporary)
        except OSError:
            # Gone already, or the directory has become unwritable: the name is hidden from every listing, and the
            # error that led here is the one to report.
            return

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.abort()


def _is_special(path: str) -> bool:
    """Whether `path` is something other than a file or directory, links followed."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _rename_if_absent(source: str, target: str) -> None:
    """Rename unless `target` exists (FileExistsError). A link is atomic against every other writer."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    else:
        os.unlink(source)
        return
    import fcntl

    # No hard links here (FAT, some network mounts): writers of ours exclude each other by locking the directory.
    fd = os.open(_parent(target), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target)
    finally:
        os.close(fd)


def write_file(path: str, body: "bytes | Reader", *, mode: int | None = None, exclusive: bool = False) -> int:
    """Write a whole file; returns its size in bytes. On return it is durable; on any exception nothing has changed.

    `mode` None means 0666 & ~umask, otherwise the exact mode. With `exclusive` an existing file raises
    FileExistsError. A reader is not closed.
    """
    with AtomicFile(path, mode, exclusive=exclusive) as file:
        for piece in (body,) if isinstance(body, bytes) else _pieces(body):
            file.write(piece)
    return file.size


def _pieces(source: Reader) -> "Iterator[bytes]":
    while piece := source.read(CHUNK):
        yield piece
