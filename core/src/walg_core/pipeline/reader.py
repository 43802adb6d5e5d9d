"""The reader protocol that every stage of the data plane speaks, and the few readers that have no better home.

Pulling keeps memory bounded without queues: `storage.put` asks the crypter, the crypter asks the compressor, the
compressor asks the file. A stage that works ahead (the compressor's pool) bounds its look-ahead in bytes.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Protocol

    class Reader(Protocol):
        """A source of bytes."""

        def read(self, size: int = -1, /) -> bytes:
            """At most `size` bytes (any number when negative); `b""` only at the end. May return fewer."""

        def close(self) -> None:
            """Release what the reader holds, the source below it included. Idempotent."""
else:

    class Reader:
        """A source of bytes: `read(size) -> bytes` (fewer is fine, empty only at the end) and `close()`."""


CHUNK = 1 << 20
"""The size in bytes that stages ask each other for."""


class BytesReader:
    """Bytes in memory. Seekable, so a retry can replay it."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        piece = bytes(self._data[self._at : end])
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        pass


class IterReader:
    """A reader over an iterator of byte pieces of any size. Closing closes the iterator (a generator's `finally`)."""

    __slots__ = ("_close", "_pieces", "_rest")

    def __init__(self, pieces: "Iterable[bytes | memoryview]", on_close: "Callable[[], None] | None" = None) -> None:
        self._pieces: Iterator[bytes | memoryview] = iter(pieces)
        self._rest: memoryview = memoryview(b"")
        self._close = on_close

    def read(self, size: int = -1, /) -> bytes:
        if size == 0:
            return b""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            if isinstance(piece, bytes) and (size < 0 or len(piece) <= size):
                if piece:
                    return piece
                continue
            self._rest = memoryview(piece)
        out = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(out) :]
        return bytes(out)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close:
            close()
        if self._close:
            on_close, self._close = self._close, None
            on_close()


def pieces(source: Reader, size: int = CHUNK) -> "Iterator[bytes]":
    """The source's bytes as it gives them, at most `size` bytes each."""
    while piece := source.read(size):
        yield piece


def read_exactly(source: Reader, size: int) -> bytes:
    """Exactly `size` bytes, or fewer when the source ends before."""
    first = source.read(size) if size else b""
    if len(first) == size:
        return first
    parts, have = [first], len(first)
    while have < size and parts[-1]:
        parts.append(source.read(size - have))
        have += len(parts[-1])
    return b"".join(parts)


def read_all(source: Reader, limit: int = 1 << 62) -> bytes:
    """Everything up to the end, but at most `limit` bytes."""
    return read_exactly(source, limit) if limit < CHUNK else b"".join(_limited(source, limit))


def _limited(source: Reader, limit: int) -> "Iterator[bytes]":
    while limit > 0 and (piece := source.read(min(limit, CHUNK))):
        limit -= len(piece)
        yield piece
