"""Putting restored data in the place of the old, so that a crash at any step leaves the one or the other.

Everything happens inside the server's data directory: what is restored lies in a hidden directory beside the old data,
is exchanged with it in one step of the file system, and only then the old is removed, or kept under `wal-g-old-TIME`.
A restore that is killed leaves its directory, and old data that it had put aside under `.wal-g-replaced-TIME`: the next
one removes the former when it begins, the latter when it has succeeded.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack

from walg_core.backups.times import backup_stamp
from walg_core.errors import EngineError
from walg_core.io.atomic import exchange, make_dirs, rename, sync_dir
from walg_core.io.locks import FileLock
from walg_core.observe import log

_PREFIX = ".wal-g-restore-"
KEPT = "wal-g-old-"
REPLACED = ".wal-g-replaced-"


class Staging:
    """A directory beside the data that the restore works in; gone when it ends, whatever happened."""

    def __init__(self, data: str) -> None:
        self._held = ExitStack()
        try:
            make_dirs(data)
            self._clear_stale(data)
            self.path = os.path.join(data, _PREFIX + os.urandom(6).hex())
            os.mkdir(self.path, 0o755)
        except OSError as error:
            raise EngineError(
                f"nothing can be restored into {data}: {error.strerror}",
                hint="check WALG_REDIS_DATA_PATH and run as the server's user",
            ) from error

    @staticmethod
    def _clear_stale(data: str) -> None:
        """What restores left that were killed; a running one holds a lock on its own."""
        for name in os.listdir(data):
            path = os.path.join(data, name)
            if not name.startswith(_PREFIX) or not os.path.isdir(path):
                continue
            try:
                with FileLock(path, wait=False):
                    log.info(f"removing {path}, left by a restore that was killed")
                    shutil.rmtree(path, ignore_errors=True)
            except OSError:
                continue

    def __enter__(self) -> str:
        try:
            self._held.enter_context(FileLock(self.path, wait=False))
        except OSError as error:
            # A file system without locks; then nobody clears up after anybody, either.
            log.debug(f"{self.path} cannot be locked: {error}")
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._held.close()


class Old:
    """The data that a restore replaces: `put_aside` moves it, `restore` brings it back, `finish` ends it."""

    def __init__(self, data: str, keep: bool) -> None:
        self._data = data
        self._keep = keep
        self._moved: list[tuple[str, str]] = []
        self._folder = os.path.join(data, (KEPT if keep else REPLACED) + backup_stamp(time.time_ns()))

    def put_aside(self, path: str) -> None:
        """Out of the server's way, on the same file system; one that is missing is fine."""
        if not os.path.lexists(path):
            return
        target = self._place(path)
        rename(path, target)
        self._moved.append((path, target))

    def keep(self, path: str) -> None:
        """A second name for a file that is about to be replaced in one step."""
        os.link(path, self._place(path))

    def _place(self, path: str) -> str:
        if not os.path.isdir(self._folder):
            os.mkdir(self._folder, 0o700)
            sync_dir(self._data)
        return os.path.join(self._folder, os.path.basename(path))

    def restore(self) -> None:
        """Everything back to its place, over what a failed restore wrote there."""
        for path, target in reversed(self._moved):
            rename(target, path)
        self._moved.clear()
        if os.path.isdir(self._folder) and not os.listdir(self._folder):
            os.rmdir(self._folder)

    def finish(self) -> None:
        """The restore succeeded: the old data goes, or its place is told."""
        if self._keep and os.path.isdir(self._folder):
            log.info(f"the data from before is kept in {self._folder}")
        for name in os.listdir(self._data) if os.path.isdir(self._data) else ():
            if name.startswith(REPLACED):
                shutil.rmtree(os.path.join(self._data, name))


def replace_directory(staged: str, target: str, old: Old) -> None:
    """Put the directory `staged` at `target`; what was there goes to `old`."""
    sync_dir(staged)
    if not os.path.lexists(target):
        rename(staged, target)
        return
    if exchange(staged, target):
        aside = os.path.join(os.path.dirname(staged), os.path.basename(target))
        if os.path.dirname(aside) != os.path.dirname(target):
            rename(staged, aside)
            staged = aside
        old.put_aside(staged)
        return
    log.warning(
        "the file system cannot exchange directories: for a moment neither the old nor the new data is in place"
    )
    old.put_aside(target)
    try:
        rename(staged, target)
    except BaseException:
        old.restore()
        raise


def dump_files(data: str) -> list[str]:
    """The `*.rdb` and `*.aof` files directly in the data directory."""
    if not os.path.isdir(data):
        return []
    return [os.path.join(data, name) for name in sorted(os.listdir(data)) if name.endswith((".rdb", ".aof"))]
