"""Bodies on their way to the server and back."""

import hashlib

from walg_core.errors import IntegrityError, TransientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from walg_core.pipeline.reader import Reader

PIECE = 1 << 20
SENT = 128 << 10
"""Sent at once: the time limit is for each of these, and a slow line must keep it."""


def in_pieces(body: bytes) -> "Iterator[bytes]":
    """A body in memory, as it is sent."""
    view = memoryview(body)
    for start in range(0, len(view), SENT):
        yield bytes(view[start : start + SENT])


class Source:
    """A body cut into pieces, counted and hashed; raises IntegrityError where its length is not the announced one.

    `error` is what reading the body raised: the HTTP library would wrap it.
    """

    def __init__(self, first: bytes, rest: "Reader", expected: int | None) -> None:
        self._first: memoryview | None = memoryview(first)
        self._rest = rest
        self._expected = expected
        self._hash = hashlib.md5(usedforsecurity=False)
        self._ahead = b""
        self._ended = False
        self.count = 0
        self.error: BaseException | None = None

    def __iter__(self) -> "Iterator[bytes]":
        return self.take(1 << 62)

    def take(self, limit: int) -> "Iterator[bytes]":
        """The next `limit` bytes, or fewer at the end."""
        while limit and (piece := self._next(min(limit, PIECE))):
            limit -= len(piece)
            yield from in_pieces(piece)

    def more(self) -> bool:
        """Whether something is left; reads ahead by a piece."""
        if not self._ahead:
            self._ahead = self._read(PIECE)
        return bool(self._ahead)

    def _next(self, size: int) -> bytes:
        if self._ahead:
            piece, self._ahead = self._ahead[:size], self._ahead[size:]
        else:
            piece = self._read(size)
        self._hash.update(piece)
        self.count += len(piece)
        return piece

    def _read(self, size: int) -> bytes:
        if self._first is not None:
            piece, self._first = bytes(self._first[:size]), self._first[size:] or None
            return piece
        if self._ended:
            return b""
        try:
            piece = self._rest.read(size)
            have = self.count + len(self._ahead) + len(piece)
            if self._expected is not None and (have > self._expected or (not piece and have != self._expected)):
                raise IntegrityError(f"the body has {have} bytes or more, {self._expected} were announced")
        except BaseException as error:
            self.error = error
            raise
        self._ended = not piece
        return piece

    def digest(self) -> str:
        """MD5 of what was taken."""
        return self._hash.hexdigest()


class Download:
    """Reads an answer of `size` bytes; shorter raises TransientError. With `check` the whole is compared to `etag`."""

    def __init__(self, answer: "Any", key: str, size: int, etag: str, *, check: bool = False) -> None:
        self._answer = answer
        self._key = key
        self._left = size
        self._hash = hashlib.md5(usedforsecurity=False) if check and len(etag) == 32 else None
        self.etag: str | None = etag or None

    def read(self, size: int = -1, /) -> bytes:
        if not size or not self._left or self._answer is None:
            return b""
        try:
            piece: bytes = self._answer.read(min(self._left, PIECE if size < 0 else size))
        except Exception as error:
            self._lose()
            raise TransientError(f"reading '{self._key}' broke off: {error}", key=self._key) from error
        if not piece:
            self._lose()
            raise TransientError(f"'{self._key}' ended {self._left} bytes early", key=self._key)
        self._left -= len(piece)
        if self._hash:
            self._hash.update(piece)
        if not self._left:
            self._finish()
        return piece

    def _finish(self) -> None:
        answer, self._answer = self._answer, None
        answer.drain_conn()
        answer.release_conn()
        if self._hash and self._hash.hexdigest() != self.etag:
            raise IntegrityError(f"object '{self._key}' is damaged: it has not the MD5 that the server keeps")

    def _lose(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def close(self) -> None:
        self._lose()
