"""Where the bytes of one extracted file go: straight into it, or through a thread that transforms them on the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from walg_core.errors import IntegrityError
from walg_core.io.destination import Destination, write_all
from walg_core.pipeline.reader import Reader
from walg_core.streams.channel import Channel, ChannelClosed

from walg_mysql.xbstream.chunks import SPARSE, Chunk
from walg_mysql.xbstream.holes import punch


class FileSink:
    """Writes chunks at their offsets. `end` closes the file, `abort` too."""

    def __init__(self, destination: Destination, fd: int, path: str) -> None:
        self._destination = destination
        self._fd = fd
        self._path = path

    def put(self, chunk: Chunk) -> None:
        """Raises OSError with the file's name, IntegrityError for a damaged chunk."""
        if chunk.kind == SPARSE:
            self._put_sparse(chunk)
            return
        at = chunk.offset
        for piece in chunk.pieces:
            write_all(self._fd, piece, self._path, at)
            at += len(piece)

    def _put_sparse(self, chunk: Chunk) -> None:
        """Holes stay holes; what a file had there before is given back, or zeroed where it cannot be."""
        size = os.fstat(self._fd).st_size
        at, rest = chunk.offset, b""
        for skip, write in chunk.sparse:
            if at < size and skip and not punch(self._fd, at, min(skip, size - at)):
                write_all(self._fd, bytes(min(skip, size - at)), self._path, at)
            at += skip
            while write:
                rest = rest or next(chunk.pieces)
                piece, rest = rest[:write], rest[write:]
                write_all(self._fd, piece, self._path, at)
                at += len(piece)
                write -= len(piece)
        if at > os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, at)

    def end(self) -> None:
        fd, self._fd = self._fd, -1
        self._destination.close_file(fd)

    def abort(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class WorkSink:
    """Gives a file's bytes, in their order, to `work` in a thread of its own; its failure is raised by `put` or `end`.

    For files that are decompressed or applied as changes: those must come without gaps.
    """

    def __init__(self, path: str, work: Callable[[Reader], None]) -> None:
        self._path = path
        self._work = work
        self._channel = Channel()
        self._next = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="xbstream-file", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work(self._channel)
        except BaseException as error:
            self._error = error
        finally:
            self._channel.close()

    def put(self, chunk: Chunk) -> None:
        if chunk.kind == SPARSE or chunk.offset != self._next:
            raise IntegrityError(f"{self._path}: compressed or changed pages must come whole and in order")
        try:
            for piece in chunk.pieces:
                self._channel.put(piece)
                self._next += len(piece)
        except ChannelClosed:
            self._thread.join()
            raise self._error or IntegrityError(f"{self._path} goes on after its end") from None

    def end(self) -> None:
        self._channel.end()
        self._thread.join()
        if self._error:
            raise self._error

    def abort(self) -> None:
        self._channel.fail(IntegrityError(f"{self._path} is not complete"))
        self._thread.join()


Sink = FileSink | WorkSink
