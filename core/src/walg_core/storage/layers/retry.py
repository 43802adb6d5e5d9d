"""Trying again, in one place: whatever the driver calls transient, with growing jittered pauses and a deadline."""

import os
import time

from walg_core.errors import ObjectExists, StorageError, Throttled, TransientError
from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.layers.base import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from walg_core.pipeline.reader import Reader

    Result = TypeVar("Result")


class Policy:
    """How often, how long apart and for how long altogether one operation is tried again.

    `retries`: tries after the first. `deadline`: seconds from the first failure after which none is begun.
    `first`, `longest`: bounds in seconds of the pauses, which double; each is shortened by up to a half at random.
    """

    __slots__ = ("clock", "deadline", "first", "longest", "retries", "sleep")

    def __init__(
        self,
        retries: int = 8,
        deadline: float = 300.0,
        first: float = 0.2,
        longest: float = 30.0,
        sleep: "Callable[[float], None]" = time.sleep,
        clock: "Callable[[], float]" = time.monotonic,
    ) -> None:
        self.retries = retries
        self.deadline = deadline
        self.first = first
        self.longest = longest
        self.sleep = sleep
        self.clock = clock


class _Attempts:
    """The failures of one operation. `failed` pauses and returns, or raises what is final."""

    __slots__ = ("_count", "_policy", "_since", "_what")

    def __init__(self, policy: Policy, what: str) -> None:
        self._policy = policy
        self._what = what
        self._count = 0
        self._since = 0.0

    def failed(self, error: TransientError) -> None:
        policy = self._policy
        now = policy.clock()
        if not self._count:
            self._since = now
        pause = min(policy.longest, policy.first * 2.0 ** min(self._count, 60))
        pause *= 0.5 + int.from_bytes(os.urandom(2), "big") / 131072
        if isinstance(error, Throttled) and error.retry_after:
            pause = max(pause, error.retry_after)
        self._count += 1
        if self._count > policy.retries or now + pause - self._since > policy.deadline:
            if not error.hint:
                error.hint = f"gave up after {self._count} tries in {now - self._since:.0f} s"
            raise error
        from walg_core.observe import log

        log.warning(f"{self._what}: {error}; try {self._count + 1} in {pause:.1f} s")
        policy.sleep(pause)

    def progress(self) -> None:
        """The operation moved on: failures count from here again."""
        self._count = 0


class RetryStorage(Layer):
    """Retries TransientError, honours Throttled's wish, resumes listings and reads where they broke off.

    A body is replayed when it can seek, or when nothing of it had been read; otherwise the failure is final.
    """

    def __init__(self, inner: Storage, policy: Policy | None = None) -> None:
        super().__init__(inner)
        self._policy = policy or Policy()

    def _run(self, what: str, operation: "Callable[[], Result]") -> "Result":
        attempts = _Attempts(self._policy, what)
        while True:
            try:
                return operation()
            except TransientError as error:
                attempts.failed(error)

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        attempts = _Attempts(self._policy, f"list '{prefix}'")
        while True:
            try:
                for info in self.inner.list(prefix, start_after):
                    start_after = info.key
                    yield info
                    attempts.progress()
                return
            except TransientError as error:
                attempts.failed(error)

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        attempts = _Attempts(self._policy, f"list '{prefix}'")
        last = ""
        while True:
            try:
                for info in self.inner.list_dir(prefix):
                    if info.key > last:
                        last = info.key
                        yield info
                return
            except TransientError as error:
                attempts.failed(error)

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return self._run(f"list folders of '{prefix}'", lambda: self.inner.list_dirs(prefix))

    def list_versions(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return iter(self._run(f"list versions of '{prefix}'", lambda: [*self.inner.list_versions(prefix)]))

    def stat(self, key: str) -> ObjectInfo:
        return self._run(f"stat '{key}'", lambda: self.inner.stat(key))

    def exists(self, key: str) -> bool:
        return self._run(f"stat '{key}'", lambda: self.inner.exists(key))

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        attempts = _Attempts(self._policy, f"read '{key}'")
        while True:
            try:
                return _ResumingReader(self.inner, key, offset, length, attempts)
            except TransientError as error:
                attempts.failed(error)

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        attempts = _Attempts(self._policy, f"put '{key}'")
        start = body.tell() if hasattr(body, "seek") and hasattr(body, "tell") else None
        failed_before = False
        while True:
            watched = _WatchedBody(body)
            try:
                return self.inner.put(key, watched, size, if_absent)
            except ObjectExists:
                if failed_before and start is not None and self._is_ours(key, body, start):
                    return self.stat(key).size
                raise
            except TransientError as error:
                if watched.failed or (watched.touched and start is None):
                    raise
                attempts.failed(error)
            if start is not None:
                body.seek(start)  # type: ignore[attr-defined]
            failed_before = True

    def _is_ours(self, key: str, body: "Reader", start: int) -> bool:
        """Whether an earlier try, whose answer was lost, had stored just this body."""
        from walg_core.pipeline.reader import CHUNK, read_exactly

        body.seek(start)  # type: ignore[attr-defined]
        stored = self.open(key)
        try:
            while piece := read_exactly(stored, CHUNK):
                if read_exactly(body, len(piece)) != piece:
                    return False
        finally:
            stored.close()
        return not body.read(1)

    def delete(self, keys: "Iterable[str]") -> None:
        wanted = [*keys]
        self._run(f"delete {len(wanted)} objects", lambda: self.inner.delete(wanted))

    def delete_versions(self, objects: "Iterable[ObjectInfo]") -> None:
        wanted = [*objects]
        self._run(f"delete {len(wanted)} versions", lambda: self.inner.delete_versions(wanted))

    def copy(self, source: str, target: str) -> None:
        self._run(f"copy '{source}'", lambda: self.inner.copy(source, target))


class _WatchedBody:
    """Notes whether the body was touched and whether a failure was its own. Never rewound by the driver itself."""

    __slots__ = ("_body", "failed", "touched")

    def __init__(self, body: "Reader") -> None:
        self._body = body
        self.touched = False
        self.failed = False

    def read(self, size: int = -1, /) -> bytes:
        self.touched = True
        try:
            return self._body.read(size)
        except BaseException:
            self.failed = True
            raise

    def close(self) -> None:
        self._body.close()


class _ResumingReader:
    """Opens again at the position where a read failed; gives up when the object has become another one meanwhile."""

    def __init__(self, storage: Storage, key: str, offset: int, length: int | None, attempts: _Attempts) -> None:
        self._storage = storage
        self._key = key
        self._at = offset
        self._end = None if length is None else offset + length
        self._attempts = attempts
        self._reader: Reader | None = storage.open(key, offset, length)
        self.etag: str | None = getattr(self._reader, "etag", None)

    def read(self, size: int = -1, /) -> bytes:
        while True:
            try:
                piece = self._source().read(size)
            except TransientError as error:
                self.close()
                if not self._storage.capabilities.ranged_read:
                    raise
                self._attempts.failed(error)
                continue
            if piece:
                self._at += len(piece)
                self._attempts.progress()
            return piece

    def _source(self) -> "Reader":
        if self._reader is None:
            left = None if self._end is None else self._end - self._at
            self._reader = self._storage.open(self._key, self._at, left)
            if getattr(self._reader, "etag", None) != self.etag:
                raise StorageError(
                    f"object '{self._key}' was replaced while it was being read", key=self._key, hint="run it again"
                )
        return self._reader

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
