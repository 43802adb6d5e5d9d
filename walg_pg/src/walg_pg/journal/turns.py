"""Whose turn a file is: `wal-push` and what uploads ahead of it never send the same segment at once.

A file beside the markers is locked by the process that uploads; the kernel frees it when that process dies. Where there
is no folder, or no locks, everyone works as if alone: a segment sent twice is the same object twice.
"""

import os

from walg_core.io import atomic
from walg_core.io.locks import FileLock
from walg_core.observe import log

SUFFIX = ".uploading"


class Turn:
    """The right to upload one file until `release`."""

    __slots__ = ("_lock", "_path")

    def __init__(self, lock: FileLock | None = None, path: str = "") -> None:
        self._lock = lock
        self._path = path

    def release(self) -> None:
        """Let others in, and leave nothing behind. Idempotent."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            os.unlink(self._path)
        except OSError as error:
            log.debug(f"{self._path} stays: {error}")
        lock.__exit__(None, None, None)


class Turns:
    """The turns in one folder; None as folder means that nobody shares the work."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def wait(self, name: str) -> None:
        """Return when no other process uploads the file. Costs one system call when none does."""
        if self.folder is None:
            return
        path = os.path.join(self.folder, name + SUFFIX)
        try:
            lock = FileLock(path, shared=True)
        except FileNotFoundError:
            return
        except OSError as error:
            log.debug(f"{path} tells nothing: {error}")
            return
        try:
            with lock:
                return
        except OSError as error:
            log.debug(f"{path} cannot be waited for: {error}")

    def take(self, name: str) -> Turn | None:
        """The turn of the file, None while another process has it."""
        if self.folder is None:
            return Turn()
        path = os.path.join(self.folder, name + SUFFIX)
        try:
            atomic.make_dirs(self.folder, 0o700)
            while True:
                lock = FileLock(path, mode=0o600, wait=False).__enter__()
                if _is_file_of(path, lock.fd):
                    return Turn(lock, path)
                # Its owner released it between our opening and locking: what we have locked nobody else sees.
                lock.__exit__(None, None, None)
        except BlockingIOError:
            return None
        except OSError as error:
            log.debug(f"{path} cannot be locked: {error}")
            return Turn()


def _is_file_of(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
