"""Reading and writing one file with many requests under way, in bounded memory.

SFTP answers every request; a client that waits for each answer moves one block per round trip. Here up to `WINDOW`
bytes are on their way.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import asyncssh
from walg_core.pipeline.reader import CHUNK

from walg_storage_ssh.session import Session, stopped_early

WINDOW = 8 << 20
_BLOCK = 256 << 10


def block_size(limit: int) -> int:
    """The size of one request, in bytes: what the server takes, within reason."""
    return min(limit or 32 << 10, _BLOCK)


class Upload:
    """Writes one open file from its start. `moved` is called whenever the server has confirmed something."""

    def __init__(self, file: "asyncssh.SFTPClientFile", moved: Callable[[], None] | None) -> None:
        self._file = file
        self._moved = moved
        self._block = block_size(file.write_len)
        self._depth = max(2, WINDOW // self._block)
        self._under_way: deque[asyncio.Task[int]] = deque()
        self.count = 0

    async def write(self, piece: bytes) -> None:
        """Sends `piece`; waits only while the window is full. Raises what an earlier request failed with."""
        view = memoryview(piece)
        for start in range(0, len(view), self._block):
            block = bytes(view[start : start + self._block])
            if len(self._under_way) >= self._depth:
                await self._confirmed()
            self._under_way.append(asyncio.ensure_future(self._file.write(block, self.count)))
            self.count += len(block)

    async def flush(self) -> None:
        """Waits until everything is confirmed."""
        while self._under_way:
            await self._confirmed()

    async def _confirmed(self) -> None:
        await self._under_way.popleft()
        if self._moved:
            self._moved()

    def cancel(self) -> None:
        """Waits for nothing more."""
        while self._under_way:
            abandon(self._under_way.popleft())


class Download:
    """Reads `length` bytes of an open file from `offset`, ahead of its reader; the window grows with what is read."""

    def __init__(
        self, session: Session, file: "asyncssh.SFTPClientFile", key: str, offset: int, length: int, etag: str
    ) -> None:
        self._session = session
        self._file: asyncssh.SFTPClientFile | None = file
        self._key = key
        self._block = block_size(file.read_len)
        self._next = offset
        self._end = offset + length
        self._left = length
        self._depth = 4
        self._under_way: deque[asyncio.Task[bytes]] = deque()
        self._rest = memoryview(b"")
        self.etag = etag

    def read(self, size: int = -1, /) -> bytes:
        if size == 0:
            return b""
        if not self._rest:
            if not self._left or self._file is None:
                return b""
            self._rest = memoryview(self._session.run(lambda _: self._some(), self._key, "read"))
            self._left -= len(self._rest)
        out = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(out) :]
        return bytes(out)

    async def _some(self) -> bytes:
        """The next block, with those behind it that have come already, at most about `CHUNK` bytes."""
        pieces = [await self._first()]
        size = len(pieces[0])
        while self._under_way and self._under_way[0].done() and size < CHUNK:
            pieces.append(await self._first())
            size += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _first(self) -> bytes:
        while self._next < self._end and len(self._under_way) < self._depth:
            size = min(self._block, self._end - self._next)
            self._under_way.append(asyncio.ensure_future(self._fetch(self._next, size)))
            self._next += size
        self._depth = min(self._depth + 1, max(2, WINDOW // self._block))
        return await self._under_way.popleft()

    async def _fetch(self, offset: int, size: int) -> bytes:
        """Exactly these bytes: a server may give fewer at a time."""
        pieces: list[bytes] = []
        while size:
            if self._file is None:
                raise stopped_early(self._key, size, self._session.where)
            piece: bytes = await self._file.read(size, offset)
            if not piece:
                raise stopped_early(self._key, self._end - offset, self._session.where)
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        file, self._file = self._file, None
        self._rest = memoryview(b"")
        if file is not None:
            self._session.later(self._abandon(file))

    async def _abandon(self, file: "asyncssh.SFTPClientFile") -> None:
        for task in self._under_way:
            abandon(task)
        self._under_way.clear()
        await close_quietly(file)


def abandon(task: "asyncio.Task[int] | asyncio.Task[bytes]") -> None:
    """Cancel; what it ends with interests nobody."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def close_quietly(file: "asyncssh.SFTPClientFile") -> None:
    """Close a file whose content does not matter any more; a lost connection has closed it already."""
    try:
        await file.close()
    except (asyncssh.Error, OSError):
        return
