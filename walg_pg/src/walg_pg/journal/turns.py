"""Whose turn a file is: `wal-push` and what uploads ahead of it never send the same segment at once.

A file beside the markers is locked by the process that uploads; the kernel frees it when that process dies. Where there
is no folder, or no locks, everyone works as if alone: a segment sent twice is the same object twice.
"""

import os
import time

from walg_core.io import atomic
from walg_core.io.locks import FileLock
from walg_core.observe import log

SUFFIX = ".uploading"
PATIENCE = 60.0
"""Seconds to wait for the process that has the turn: it may be stopped, and PostgreSQL's disk fills meanwhile."""
LOOK_INTERVAL = 0.003


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

    def wait(self, name: str) -> bool:
        """Whether no other process uploads the file, after waiting for it; costs one system call when none does."""
        if self.folder is None:
            return True
        path = os.path.join(self.folder, name + SUFFIX)
        deadline = 0.0
        while True:
            try:
                with FileLock(path, shared=True, wait=False):
                    return True
            except FileNotFoundError:
                return True
            except BlockingIOError:
                now = time.monotonic()
                deadline = deadline or now + PATIENCE
                if now > deadline:
                    return False
                time.sleep(LOOK_INTERVAL)
            except OSError as error:
                log.debug(f"{path} tells nothing: {error}")
                return True

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
