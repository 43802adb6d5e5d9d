"""Markers of segments that a background upload has stored already (spec/postgres-wal.md 4.2; 14, items 1-3).

The original's marker is an empty file named like the segment. Ours says in its content which file was stored where, so
a copied data directory or another storage can never make a segment look archived. Only plain segment names have one.
"""

import os

from walg_core.io import atomic
from walg_core.observe import log

from walg_pg.lsn import is_segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.storage.api import Storage

_FORM = "walg1"


class Markers:
    """The markers in one folder; None as folder means that there are none and none are made."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def _path(self, name: str) -> str | None:
        return os.path.join(self.folder, name) if self.folder and is_segment_name(name) else None

    @staticmethod
    def identity(path: str, storage: "Storage") -> str:
        """What tells this very file in this very storage from any other; raises OSError without the file."""
        found = os.stat(path)
        return f"{_FORM} {found.st_size} {found.st_mtime_ns} {found.st_ino} {storage.description}"

    def holds(self, name: str, path: str, storage: "Storage") -> bool | None:
        """True: stored by us, nothing changed since. None: a marker of the original, so look into the storage.

        False: no marker, or one of another file or storage. Trouble reading it counts as none.
        """
        marker = self._path(name)
        if marker is None:
            return False
        try:
            with open(marker, encoding="utf-8", errors="replace") as file:
                text = file.read(4096)
        except OSError:
            return False
        if not text:
            return None
        return text == self.identity(path, storage)

    def make(self, name: str, path: str, storage: "Storage") -> bool:
        """After the object is durable. Returns whether the marker was written; a failure is only logged."""
        marker = self._path(name)
        if marker is None or self.folder is None:
            return False
        try:
            atomic.make_dirs(self.folder, 0o700)
            _write(marker, self.identity(path, storage).encode())
        except OSError as error:
            log.warning(f"the marker of {name} could not be written, it will be uploaded again: {error}")
            return False
        return True

    def remove(self, name: str) -> None:
        """The segment's turn has come; a failure is only logged."""
        marker = self._path(name)
        if marker is None:
            return
        try:
            os.unlink(marker)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning(f"the marker of {name} could not be removed: {error}")


def _write(path: str, content: bytes) -> None:
    """Neither synced nor renamed: a marker that a crash loses or cuts only costs an upload that compares equal."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
