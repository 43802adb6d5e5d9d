"""Tars on their way to the storage: filled by pulling, several at once, each checked after it was stored (spec 4.4)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from walg_core.context import Context
from walg_core.errors import Interrupted, StorageError, WalgError
from walg_core.observe.progress import Tracker
from walg_core.pipeline import tar
from walg_core.pipeline.reader import CHUNK
from walg_core.storage.api import Storage

from walg_pg.backup.walk import Found
from walg_pg.filelist import FileList, Names
from walg_pg.sentinel import FileEntry


class Content(Protocol):
    """Data of one entry: exactly `size` bytes in all. `corrupt` is known once everything was read."""

    size: int
    corrupt: tuple[int, tuple[int, ...]] | None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty only at the end."""

    def close(self) -> None:
        """Idempotent."""


class Packed(NamedTuple):
    """What becomes of one found entry: its header (empty: no entry at all), its data, its row of `Files`."""

    header: bytes
    content: Content | None
    record: FileEntry | None


class Stop(WalgError):
    """Another thread failed; this one gives up. Never shown: the first failure is."""


class Abort:
    """The first failure of a run, and the order to everybody else to give up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Remember the first failure."""
        with self._lock:
            if self.error is None:
                self.error = error

    def check(self) -> None:
        """Raises Stop once something has failed."""
        if self.error is not None:
            raise Stop("given up")


class Ledger:
    """What the backup consists of, collected by all threads."""

    def __init__(self, keep_files: bool = True) -> None:
        self.keep_files = keep_files
        self._files = FileList()
        self.uncompressed = 0
        self.compressed = 0
        self._number = 0
        self._lock = threading.Lock()

    def number(self) -> int:
        """The next part number, from 1."""
        with self._lock:
            self._number += 1
            return self._number

    def record(self, name: str, entry: FileEntry) -> None:
        """A row of `Files`."""
        if self.keep_files:
            self._files.add(name, entry)

    def stored(self, part: str, names: Collection[str], plain: int, stored: int) -> None:
        """A part is durable: its names (none: not listed), the sum of its entries' data, its size in the storage."""
        if names and self.keep_files:
            self._files.add_part(part, names)
        with self._lock:
            self.uncompressed += plain
            self.compressed += stored

    def listed(self, databases: dict[str, Any]) -> Iterator[bytes]:
        """`files_metadata.json` in pieces."""
        return self._files.pieces(databases)


class Shared:
    """One iterator that several threads draw from."""

    def __init__(self, entries: Iterable[Found]) -> None:
        self._entries = iter(entries)
        self._lock = threading.Lock()

    def take(self) -> Found | None:
        """The next entry, None at the end."""
        with self._lock:
            return next(self._entries, None)


class TarStream:
    """A tar as a reader: draws entries from `take` until their data exceeds `threshold` or there are no more.

    `names` are all entries of the part (also a file that vanished before it was opened, as the original has it).
    `exhausted`: nothing is left to draw.
    """

    def __init__(
        self,
        take: Callable[[], Found | None],
        pack: Callable[[Found], Packed | None],
        ledger: Ledger,
        abort: Abort,
        threshold: int,
        tracker: Tracker | None = None,
    ) -> None:
        self.names = Names()
        self.data = 0
        self._take = take
        self._pack = pack
        self._ledger = ledger
        self._abort = abort
        self._threshold = threshold
        self._tracker = tracker
        self._pending = b""
        self._current: tuple[Found, Packed, Content] | None = None
        self._done = False
        self.exhausted = False

    def start(self) -> bool:
        """Draw up to the first entry that has a header; False when there is none (then no part is made)."""
        return self._next()

    def read(self, size: int = -1, /) -> bytes:
        """Bytes of the tar, as many as asked for except at the end."""
        self._abort.check()
        wanted = size if size > 0 else CHUNK
        if self._current and not self._pending:
            # A large file's bytes go through as they come from the kernel, without a copy.
            piece = self._from_file(wanted)
            if len(piece) == wanted:
                return piece
            parts, have = [piece], len(piece)
        else:
            parts, have = [], 0
        while have < wanted:
            piece = self._some(wanted - have)
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        while True:
            if self._pending:
                piece, self._pending = self._pending[:size], self._pending[size:]
                return piece
            if self._current:
                piece = self._from_file(size)
                if piece:
                    return piece
            elif self._done:
                return b""
            elif not self._next():
                self._done = True
                self._pending = tar.TRAILER

    def _from_file(self, size: int) -> bytes:
        assert self._current is not None
        found, packed, content = self._current
        piece = content.read(size)
        if piece:
            if self._tracker:
                self._tracker.advance(len(piece))
            return piece
        content.close()
        self._current = None
        self._pending = tar.padding(content.size)
        self.data += content.size
        if packed.record:
            record = packed.record
            self._ledger.record(found.name, record._replace(corrupt=content.corrupt) if content.corrupt else record)
        return b""

    def _next(self) -> bool:
        """Draw the next entry that has a header."""
        while self.data <= self._threshold:
            self._abort.check()
            found = self._take()
            if found is None:
                self.exhausted = True
                return False
            packed = self._pack(found)
            if packed is not None and not packed.header:
                self._ledger.record(found.name, packed.record or FileEntry())
                continue
            self.names.append(found.name)
            if packed is None:
                continue
            self._pending = packed.header
            if packed.content is not None:
                self._current = (found, packed, packed.content)
            elif packed.record:
                self._ledger.record(found.name, packed.record)
            return True
        return False

    def close(self) -> None:
        """Close the file that is open, if any."""
        if self._current:
            self._current[2].close()
            self._current = None


class Tar(Protocol):
    """A tar as a reader, with the names in it and the sum of its entries' data in bytes, complete at its end."""

    @property
    def names(self) -> Collection[str]:
        """All that belong into the part's list."""

    data: int

    def read(self, size: int = -1, /) -> bytes:
        """Bytes of the tar; empty only at the end."""

    def close(self) -> None:
        """Idempotent."""


class Uploader:
    """Stores tars below `prefix` and makes sure that each is there with the size that was sent."""

    def __init__(self, context: Context, storage: Storage, prefix: str, ledger: Ledger, abort: Abort) -> None:
        self.context = context
        self.storage = storage
        self.prefix = prefix
        self.ledger = ledger
        self.abort = abort
        self.stored: dict[str, int] = {}

    def store(self, base: str, stream: Tar, names: Collection[str] | None = None) -> None:
        """Store one tar as `base` plus the compressor's extension; `names` replaces the stream's list."""
        encoded, extension = self.context.encode(stream)
        part = base + extension
        key = self.prefix + part
        try:
            stored = self.storage.put(key, encoded)
        finally:
            encoded.close()
        self.stored[key] = stored
        found = self.storage.stat(key).size
        if found != stored:
            raise StorageError(
                f"'{key}' has {found} bytes in the storage but {stored} were sent",
                key=key,
                hint="the storage lost data without an error; the backup was given up",
            )
        self.ledger.stored(part, stream.names if names is None else names, stream.data, stored)


def fill(uploader: Uploader, streams: Callable[[], Iterator[TarStream]], workers: int) -> list[threading.Thread]:
    """Start `workers` threads, each storing the streams it gets as parts; failures end up in the uploader's abort.

    `streams` is called once a thread. The caller waits for the threads (`wait`).
    """

    def work() -> None:
        try:
            for stream in streams():
                if not stream.start():
                    continue
                uploader.store(f"part_{uploader.ledger.number():03d}.tar", stream)
        except Stop:
            return
        except BaseException as error:
            uploader.abort.fail(error)

    threads = [threading.Thread(target=work, name=f"part {number}", daemon=True) for number in range(1, workers + 1)]
    for thread in threads:
        thread.start()
    return threads


def wait(threads: Iterable[threading.Thread], abort: Abort, watch: Callable[[], None] | None = None) -> None:
    """Wait for the threads; `watch` is called about every quarter second. Raises the first failure."""
    for thread in threads:
        while thread.is_alive() and abort.error is None:
            thread.join(0.25)
            if watch:
                watch()
    raise_failure(abort)


def raise_failure(abort: Abort) -> None:
    """Raises the first failure, if any."""
    if abort.error is not None:
        raise abort.error


def give_up(threads: Iterable[threading.Thread], abort: Abort, patience: float = 60) -> None:
    """Make the threads end, so that no upload is left half done; waits `patience` seconds at most."""
    abort.fail(Interrupted("given up"))
    for thread in threads:
        thread.join(patience)
