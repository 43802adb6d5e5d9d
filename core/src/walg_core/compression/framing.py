"""Cutting a source into pieces of equal size, and what all decompressors share."""

from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import CHUNK, IterReader, Reader, read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def full_pieces(source: Reader, size: int) -> "Iterator[bytes]":
    """Pieces of exactly `size` bytes, the last one shorter; nothing for an empty source."""
    while piece := read_exactly(source, size):
        yield piece
        if len(piece) < size:
            return


class Stage(IterReader):
    """A reader over the pieces that a stage makes of `source`; closing it closes `source` too.

    After a failure every further read fails the same way: a broken stream never looks like one that has ended.
    """

    __slots__ = ("_failure",)

    def __init__(self, pieces: "Iterator[bytes]", source: Reader) -> None:
        super().__init__(pieces, source.close)
        self._failure: BaseException | None = None

    def read(self, size: int = -1, /) -> bytes:
        if self._failure is not None:
            raise self._failure
        try:
            return super().read(size)
        except BaseException as error:
            self._failure = error
            raise


class NonEmpty:
    """`source`, in which no bytes at all are an error: every method writes some even for empty data.

    The KMS formats cannot tell a stream that is cut before its first package from an empty one; this does.
    """

    __slots__ = ("_source", "_started")

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._started = False

    def read(self, size: int = -1, /) -> bytes:
        out = self._source.read(size)
        if not out and not self._started and size:
            raise IntegrityError(
                "the encrypted object is cut: it holds no data, not even an empty compressed stream",
                hint="the object is truncated; fetch it from another copy",
            )
        self._started = self._started or bool(out)
        return out

    def close(self) -> None:
        self._source.close()


class Input:
    """Buffered reading for decoders: `take(n)` is exact, `fill()` gives what comes, `back(rest)` returns it."""

    __slots__ = ("_rest", "_source", "what")

    def __init__(self, source: Reader, what: str) -> None:
        self._source = source
        self._rest = b""
        self.what = what

    def fill(self) -> bytes:
        """Some bytes, empty only at the end."""
        if self._rest:
            out, self._rest = self._rest, b""
            return out
        return self._source.read(CHUNK)

    def back(self, rest: bytes) -> None:
        """Give bytes back that belong to what follows."""
        self._rest = rest + self._rest

    def up_to(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end."""
        if len(self._rest) >= size:
            out, self._rest = self._rest[:size], self._rest[size:]
            return out
        out = self._rest + read_exactly(self._source, size - len(self._rest))
        self._rest = b""
        return out

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises IntegrityError at an early end."""
        out = self.up_to(size)
        if len(out) < size:
            raise self.cut()
        return out

    def cut(self) -> IntegrityError:
        return IntegrityError(
            f"the {self.what} stream is cut: it ends before its last frame does",
            hint="the object is truncated; fetch it from another copy",
        )

    def damaged(self, why: object) -> IntegrityError:
        return IntegrityError(
            f"the {self.what} stream is damaged: {why}",
            hint="the object is encrypted with another key than the one configured, or damaged in the storage: "
            "bring it back from a copy, or take another backup",
        )
