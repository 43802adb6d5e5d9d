"""Bytes of one file on their way into a tar: exactly as many as its header promised (spec/postgres-backup.md 4.2).

A file that shrank meanwhile is filled up with zero bytes, one that grew is cut: recovery repairs both from the WAL.
"""

from __future__ import annotations

import mmap
import os
import threading

from walg_core.errors import EngineError
from walg_core.storage.layers.limit import TokenBucket

DIRECT_BLOCK = 4096
_O_DIRECT = getattr(os, "O_DIRECT", 0)


class DataFiles:
    """How data files are read: through the page cache or past it, within the rate limit."""

    def __init__(self, limit: TokenBucket | None = None, direct_blocks: int = 0) -> None:
        self._limit = limit
        self._direct = direct_blocks * DIRECT_BLOCK if _O_DIRECT else 0
        self._buffers = threading.local()

    def open(self, path: str) -> int:
        """A descriptor for reading; FileNotFoundError where the file has vanished, other failures EngineError.

        A link that replaced the file is not followed.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            if self._direct:
                try:
                    return os.open(path, flags | _O_DIRECT)
                except OSError as error:
                    if isinstance(error, FileNotFoundError):
                        raise
                    # The file system has no direct reads; the ordinary way serves.
            return os.open(path, flags)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(path, error) from error

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`; fewer only at the end of the file."""
        if self._limit:
            size = min(size, self._limit.burst)
            self._limit.take(size)
        if not self._direct:
            return os.pread(fd, size, offset)
        return self._read_direct(fd, size, offset)

    def read_into(self, fd: int, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset` without a copy; how many bytes it got, fewer only at the end of the file."""
        if self._limit or self._direct:
            piece = self.read(fd, len(view), offset)
            view[: len(piece)] = piece
            return len(piece)
        return os.preadv(fd, [view], offset)

    def _read_direct(self, fd: int, size: int, offset: int) -> bytes:
        """Through an aligned buffer, from an aligned place."""
        buffer = getattr(self._buffers, "buffer", None)
        if buffer is None:
            buffer = self._buffers.buffer = mmap.mmap(-1, self._direct + DIRECT_BLOCK)
        skip = offset % DIRECT_BLOCK
        got = os.preadv(fd, [buffer], offset - skip)
        return bytes(buffer[skip : min(got, skip + size)])


def unreadable(path: str, error: OSError) -> EngineError:
    """The error of a data file that cannot be read."""
    return EngineError(
        f"cannot read {path}: {error.strerror}",
        hint="check the disk and the permissions; the backup is worthless without this file, so it was given up",
    )


class FileContent:
    """`size` bytes of a file. Closing it closes the descriptor."""

    corrupt: tuple[int, tuple[int, ...]] | None = None

    def __init__(self, files: DataFiles, fd: int, path: str, size: int) -> None:
        self.files = files
        self.path = path
        self.size = size
        self._fd = fd
        self._at = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty only when all are given."""
        size = min(size, self.size - self._at)
        if size <= 0:
            return b""
        piece = b""
        if not self._ended:
            piece = self._read(size)
            if not piece:
                self._ended = True
        if self._ended:
            piece = bytes(size)
        self._at += len(piece)
        return piece

    def _read(self, size: int) -> bytes:
        try:
            return self.files.read(self._fd, size, self._at)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class BytesContent:
    """Bytes that are in memory already."""

    corrupt: tuple[int, tuple[int, ...]] | None = None

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._rest = data

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def close(self) -> None:
        """Nothing to release."""
