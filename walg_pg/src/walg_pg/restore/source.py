"""Reading a part: re-opened where the connection broke, decrypted, decompressed (spec/postgres-backup.md 1, 11.3)."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from walg_core.errors import ConfigError, IntegrityError, TransientError
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable

    from walg_core.context import Context
    from walg_core.pipeline.reader import Reader
    from walg_core.storage.api import ObjectInfo, Storage

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 20.0


class Download:
    """The stored bytes of an object of known size; a dropped or short answer is continued from where it ended.

    Gives up with TransientError after `retries` attempts in a row that brought nothing. `stopped` is asked between
    attempts, so that a cancelled restore does not sit out its pauses.
    """

    def __init__(
        self, storage: Storage, info: ObjectInfo, *, retries: int, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._storage = storage
        self._info = info
        self._retries = retries
        self._stopped = stopped
        self._reader: Reader | None = None
        self.count = 0
        self.reopened = 0

    def read(self, size: int = -1, /) -> bytes:
        fruitless = 0
        while True:
            try:
                if self._reader is None:
                    self._reader = self._storage.open(self._info.key, self.count)
                piece = self._reader.read(size)
                if piece or self.count >= self._info.size or size == 0:
                    self.count += len(piece)
                    return piece
                raise TransientError(
                    f"'{self._info.key}' ended after {self.count} of {self._info.size} bytes", key=self._info.key
                )
            except TransientError as error:
                fruitless += 1
                self._again(error, fruitless)

    def _again(self, error: TransientError, attempt: int) -> None:
        self.close()
        if attempt > self._retries or self._stopped():
            raise error
        if attempt > 1 and self._shrunk():
            raise IntegrityError(
                f"'{self._info.key}' has become shorter than the {self._info.size} bytes it had when it was listed"
            ) from error
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))
        log.warning(f"reading '{self._info.key}' broke after {self.count} bytes ({error}); goes on in {pause:.2g} s")
        deadline = time.monotonic() + pause
        while time.monotonic() < deadline and not self._stopped():
            time.sleep(min(0.1, pause))
        self.reopened += 1

    def _shrunk(self) -> bool:
        try:
            return self._storage.stat(self._info.key).size < self._info.size
        except TransientError:
            return False

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()


def extension(key: str) -> str:
    """The compression extension of a part: the last dot-component, "" for `tar` and for none."""
    _, dot, last = key.rpartition("/")[2].rpartition(".")
    return last if dot and last != "tar" else ""


def open_part(context: Context, download: Download, key: str) -> Reader:
    """The plain tar stream of a part. Raises ConfigError that names the part when its extension is unknown."""
    try:
        return context.decode(download, extension(key))
    except ConfigError as error:
        download.close()
        raise ConfigError(f"{key}: {error}", hint=error.hint) from error
    except BaseException:
        download.close()
        raise


class ReadAhead:
    """Reads its source in a thread of its own, at most `PIECES` pieces of 1 MiB ahead of who reads it.

    Decompressing one piece and writing another then happen at once. Errors of the source are raised by `read`.
    """

    PIECES = 4

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._queue: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(self.PIECES)
        self._stopped = False
        self._rest = memoryview(b"")
        self._ended: bytes | BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._room.acquire()
                if self._stopped:
                    return
                piece = self._source.read(CHUNK)
                self._queue.put(piece)
                if not piece:
                    return
        except BaseException as error:
            self._queue.put(error)

    def read(self, size: int = -1, /) -> bytes:
        if not self._rest:
            piece = self._next()
            if size < 0 or len(piece) <= size:
                return piece
            self._rest = memoryview(piece)
        out, self._rest = self._rest[:size], self._rest[size:]
        return bytes(out)

    def _next(self) -> bytes:
        if self._ended is None:
            found = self._queue.get()
            self._room.release()
            if found and not isinstance(found, BaseException):
                return found
            self._ended = found
        if isinstance(self._ended, BaseException):
            raise self._ended
        return b""

    def close(self) -> None:
        self._stopped = True
        self._room.release()
        self._thread.join()
        self._source.close()
