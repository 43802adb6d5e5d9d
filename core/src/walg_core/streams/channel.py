"""A bounded pipe of bytes between two threads of one process."""

from __future__ import annotations

import threading
from collections import deque

from walg_core.pipeline.reader import CHUNK, Reader

LIMIT = 2 << 20
"""Bytes that may wait in one channel."""


class ChannelClosed(Exception):
    """The other side is gone; what it died of is raised elsewhere."""


class Channel:
    """One thread puts pieces, another reads them as from a `Reader`. `limit` bounds the bytes that wait.

    `fail` makes both sides raise its error: a reader never takes a broken stream for a finished one.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._rest = memoryview(b"")
        self._ended = False
        self._gone = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, piece: bytes) -> None:
        """Wait for room and add a piece. Raises ChannelClosed when the reader has gone, or the error of `fail`."""
        if not piece:
            return
        with self._changed:
            while self._waiting >= self._limit and not self._gone and not self._error:
                self._changed.wait()
            self._check_alive()
            self._pieces.append(piece)
            self._waiting += len(piece)
            self._changed.notify_all()

    def end(self) -> None:
        """No more pieces."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Break the stream; the first error counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _check_alive(self) -> None:
        if self._error:
            raise self._error
        if self._gone:
            raise ChannelClosed

    def at_end(self) -> bool:
        """Wait until there is a byte to read (False) or the stream has ended (True)."""
        if self._rest:
            return False
        with self._changed:
            while not self._pieces and not self._ended and not self._error:
                self._changed.wait()
            if self._error:
                raise self._error
            return not self._pieces

    def read(self, size: int = -1, /) -> bytes:
        if size == 0 or self.at_end():
            return b""
        if not self._rest:
            with self._changed:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                self._changed.notify_all()
            if size < 0 or len(piece) <= size:
                return piece
            self._rest = memoryview(piece)
        out = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(out) :]
        return bytes(out)

    def close(self) -> None:
        """The reader goes away: a putter that waits is woken. Idempotent."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()


class Ahead:
    """Reads its source in a thread of its own, a bounded number of bytes ahead, so that both sides work at once.

    Closing wakes a source that waits, by its `cancel` where it has one, and closes it.
    """

    def __init__(self, source: Reader, limit: int = LIMIT) -> None:
        self._source = source
        self._channel = Channel(limit)
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while piece := self._source.read(CHUNK):
                self._channel.put(piece)
            self._channel.end()
        except ChannelClosed:
            return
        except BaseException as error:
            self._channel.fail(error)
        finally:
            self._source.close()

    def read(self, size: int = -1, /) -> bytes:
        return self._channel.read(size)

    def close(self) -> None:
        self._channel.close()
        cancel = getattr(self._source, "cancel", None)
        if cancel and self._thread.is_alive():
            cancel()
        self._thread.join()
