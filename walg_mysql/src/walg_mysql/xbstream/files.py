"""An xbstream from a file or from standard input."""

from __future__ import annotations

import os
import sys

from walg_core.pipeline.reader import CHUNK


class FileReader:
    """The rest of a descriptor; closing closes it unless it is `borrowed`."""

    def __init__(self, fd: int, *, borrowed: bool = False) -> None:
        self._fd = fd
        self._borrowed = borrowed

    def read(self, size: int = -1, /) -> bytes:
        return os.read(self._fd, CHUNK if size < 0 else min(size, CHUNK))

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0 and not self._borrowed:
            os.close(fd)


def open_input(path: str) -> FileReader:
    """The file at `path`, standard input for "" and `-`. Raises OSError."""
    if path in ("", "-"):
        return FileReader(sys.stdin.fileno(), borrowed=True)
    return FileReader(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
