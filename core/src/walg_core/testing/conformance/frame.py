"""What the cases share: their isolation, their comparisons, and bodies that behave badly."""

import contextlib
import functools
import os
import unittest
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from walg_core.errors import StorageError
from walg_core.pipeline.reader import Reader, pieces, read_all
from walg_core.storage.api import Storage

Case = TypeVar("Case", bound=Callable[..., None])


class NotApplicable(unittest.SkipTest):
    """The storage does not claim what this case is about. Pytest shows it as skipped."""


class BodyFailed(Exception):
    """What the failing bodies of the suite raise; a storage must let it pass unchanged."""


def case(function: Case) -> Case:
    """A case works in a folder of its own, which is emptied afterwards."""

    @functools.wraps(function)
    def isolated(self: Any, storage: Storage) -> None:
        area = storage.folder(f"walg-conformance-{os.urandom(6).hex()}")
        try:
            function(self, area)
        finally:
            # What a broken storage makes of the cleaning is not this case's finding.
            with contextlib.suppress(StorageError):
                area.delete([info.key for info in area.list()])

    return isolated  # type: ignore[return-value]


def same(found: object, expected: object, what: str) -> None:
    """AssertionError unless equal; long values are cut in the message."""
    if found != expected:
        raise AssertionError(f"{what}: found {_short(found)}, expected {_short(expected)}")


def true(condition: object, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:140]} … {text[-140:]} ({len(text)} characters)"


@contextlib.contextmanager
def raises(kind: type[BaseException], what: str) -> Iterator[None]:
    """AssertionError unless the block raises `kind`."""
    try:
        yield
    except kind:
        return
    except Exception as error:
        raise AssertionError(f"{what}: {kind.__name__} expected, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"{what}: {kind.__name__} expected, nothing was raised")


def content(storage: Storage, key: str, offset: int = 0, length: int | None = None) -> bytes:
    """What the object (or a range of it) holds."""
    reader = storage.open(key, offset, length)
    try:
        return read_all(reader)
    finally:
        reader.close()


def keys(storage: Storage, prefix: str = "", start_after: str | None = None) -> list[str]:
    return [info.key for info in storage.list(prefix, start_after)]


def data(size: int) -> bytes:
    """`size` incompressible bytes."""
    return os.urandom(size)


class Body:
    """A body that cannot seek, gives at most `piece` bytes a time, and calls `before(position)` before each."""

    def __init__(self, content: bytes, piece: int = 1 << 20, before: Callable[[int], None] | None = None) -> None:
        self._content = content
        self._at = 0
        self._piece = piece
        self._before = before
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        if self._before:
            self._before(self._at)
        end = self._at + (self._piece if size < 0 else min(size, self._piece))
        piece = self._content[self._at : end]
        self._at += len(piece)
        return piece

    def close(self) -> None:
        self.closed = True


def fails_after(limit: int, error: BaseException | None = None) -> Callable[[int], None]:
    """For `Body`: raise once `limit` bytes were given."""

    def check(position: int) -> None:
        if position >= limit:
            raise error or BodyFailed(f"the body fails after {limit} bytes")

    return check


def drain(reader: Reader, piece: int) -> bytes:
    """Everything, asked for in small pieces."""
    return b"".join(pieces(reader, piece))
