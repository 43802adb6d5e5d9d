"""A file on its way into the archive: packed while it is sent, and packed anew when it must be sent again.

Drivers of object storages collect a small object in memory before its single request. So that many uploads at once
never hold more than a fixed number of bytes together, each waits for `memory` before it packs.
"""

import _thread
import os

from walg_core.errors import WalgError
from walg_core.pipeline.reader import CHUNK, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.context import Context


class Gate:
    """At most `limit` bytes are inside; those who wait are let in in order. Shared by threads.

    `limit` may be changed: it counts for those who come or go later.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._inside = 0
        self._lock = _thread.allocate_lock()
        self._waiting: list[tuple[int, _thread.LockType]] = []

    def enter(self, size: int) -> int:
        """Wait until `size` bytes fit (what exceeds the limit counts as the limit); what to give to `leave`."""
        size = min(size, self.limit)
        with self._lock:
            if not self._waiting and self._inside + size <= self.limit:
                self._inside += size
                return size
            turn = _thread.allocate_lock()
            turn.acquire()
            self._waiting.append((size, turn))
        turn.acquire()
        return size

    def leave(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._inside -= size
            while self._waiting and self._inside + self._waiting[0][0] <= self.limit:
                admitted, turn = self._waiting.pop(0)
                self._inside += admitted
                turn.release()


memory = Gate(24 << 20)
"""One for the whole process: a daemon serves many requests at once. `WALG_WAL_PUSH_MEMORY` sets its limit."""


class FileReader:
    """Unbuffered reading of a local file that must not change its size meanwhile."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size
        self._at = 0

    def head(self, size: int) -> bytes:
        """The first bytes, without moving."""
        return os.pread(self._fd, size, 0)

    def read(self, size: int = -1, /) -> bytes:
        piece = os.pread(self._fd, CHUNK if size < 0 else size, self._at)
        self._at += len(piece)
        if self._at > self.size or (not piece and size and self._at < self.size):
            raise WalgError(f"{self._path} changed its size while it was read")
        return piece

    def rewind(self) -> None:
        """Begin again."""
        self._at = 0

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Unclosed:
    """Lets stages that close their source be made over one file again and again."""

    def __init__(self, source: FileReader) -> None:
        self.read = source.read

    def close(self) -> None:
        """The file stays open."""


class Packed:
    """`source` compressed and encrypted as configured. It can be rewound to its start: then it is packed anew.

    Before its first byte it waits at `gate` for `room` bytes (what its taker may hold); when it turns out smaller, the
    surplus is given back, the rest on `close`. Closing it does not close `source`.
    """

    def __init__(self, context: "Context", source: FileReader, gate: Gate, room: int) -> None:
        self._context = context
        self._source = source
        self._gate = gate
        self._room = room
        self._held = 0
        self._entered = False
        self._at = 0
        self._stream, self.extension = self._open()

    def _open(self) -> "tuple[Reader, str]":
        self._source.rewind()
        return self._context.encode(_Unclosed(self._source))

    def read(self, size: int = -1, /) -> bytes:
        if not self._entered:
            self._entered = True
            self._held = self._gate.enter(self._room)
        piece = self._stream.read(size)
        self._at += len(piece)
        if not piece and size:
            # Now it is known how much there is to hold: the rest is for others.
            surplus = self._held - min(self._held, self._at)
            self._held -= surplus
            self._gate.leave(surplus)
        return piece

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Only to the start, as a retry does. Raises ValueError for any other place."""
        if offset or whence:
            raise ValueError("only the start can be sought")
        self._stream.close()
        self._stream, _ = self._open()
        self._at = 0
        return 0

    def close(self) -> None:
        self._stream.close()
        held, self._held = self._held, 0
        self._gate.leave(held)
