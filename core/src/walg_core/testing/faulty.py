"""Storages that misbehave on purpose, around one that does not."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from walg_core.errors import AccessDenied, StorageError, TransientError
from walg_core.pipeline.reader import Reader
from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.layers.base import Layer


class FaultyStorage(Layer):
    """Fails as told and counts what it is asked.

    `fail(operation, times)` makes the next `times` calls of an operation (`put`, `open`, `read`, `list`, `list_dirs`,
    `stat`, `delete`, `copy`) raise; `break_all()` all until `repair()`. `after` (bytes): a put or read fails midway.
    `calls` counts the calls by operation.
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self._plans: dict[str, list[tuple[StorageError, int]]] = {}
        self._broken: StorageError | None = None
        self._lock = threading.Lock()

    def fail(self, operation: str, times: int = 1, *, error: StorageError | None = None, after: int = 0) -> None:
        """Let the next `times` calls raise `error` (a TransientError by default)."""
        plan = (error or TransientError(f"injected failure of {operation}"), after)
        with self._lock:
            self._plans.setdefault(operation, []).extend([plan] * times)

    def break_all(self, error: StorageError | None = None) -> None:
        self._broken = error or TransientError("injected: the storage is down")

    def repair(self) -> None:
        self._broken = None
        with self._lock:
            self._plans.clear()

    def _enter(self, operation: str) -> tuple[StorageError, int] | None:
        """Count; raise when the failure comes at once; else return the failure to come and its offset."""
        with self._lock:
            self.calls[operation] += 1
            plan = self._plans.get(operation, [])
            found = plan.pop(0) if plan else None
        if self._broken:
            raise self._broken
        if found and not found[1]:
            raise found[0]
        return found

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        self._enter("list")
        return super().list(prefix, start_after)

    def list_dir(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._enter("list")
        return super().list_dir(prefix)

    def list_dirs(self, prefix: str = "") -> Sequence[str]:
        self._enter("list_dirs")
        return super().list_dirs(prefix)

    def stat(self, key: str) -> ObjectInfo:
        self._enter("stat")
        return super().stat(key)

    def exists(self, key: str) -> bool:
        self._enter("stat")
        return super().exists(key)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        self._enter("open")
        reader = super().open(key, offset, length)
        plan = self._enter("read")
        return FailingReader(reader, plan[1], plan[0]) if plan else reader

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        plan = self._enter("put")
        return super().put(key, FailingReader(body, plan[1], plan[0]) if plan else body, size, if_absent)

    def delete(self, keys: Iterable[str]) -> None:
        self._enter("delete")
        super().delete(keys)

    def copy(self, source: str, target: str) -> None:
        self._enter("copy")
        super().copy(source, target)


class FailingReader:
    """Passes `after` bytes, then raises `error`."""

    def __init__(self, source: Reader, after: int, error: BaseException) -> None:
        self._source = source
        self._left = after
        self._error = error

    def read(self, size: int = -1, /) -> bytes:
        if self._left <= 0:
            raise self._error
        piece = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(piece)
        if not piece:
            raise self._error
        return piece

    def close(self) -> None:
        self._source.close()


class EventualStorage(Layer):
    """Listings lag behind by `delay` seconds, as some stores' do. Reads and stats are up to date."""

    def __init__(self, inner: Storage, delay: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self.capabilities = inner.capabilities.replace(consistent_listing=False)
        self._delay = delay
        self._clock = clock
        self._seen: list[tuple[float, list[ObjectInfo]]] = [(clock() - delay, [])]

    def _record(self) -> None:
        self._seen.append((self._clock(), list(self.inner.list())))

    def _stale(self) -> "Sequence[ObjectInfo]":
        until = self._clock() - self._delay
        return [state for at, state in self._seen if at <= until][-1]

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        return (i for i in self._stale() if i.key.startswith(prefix) and i.key > (start_after or ""))

    def list_dir(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in self.list(prefix) if "/" not in info.key[len(prefix) :])

    def list_dirs(self, prefix: str = "") -> Sequence[str]:
        below = (info.key[len(prefix) :] for info in self.list(prefix))
        return sorted({prefix + rest.split("/")[0] + "/" for rest in below if "/" in rest})

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        stored = super().put(key, body, size, if_absent)
        self._record()
        return stored

    def delete(self, keys: Iterable[str]) -> None:
        super().delete(keys)
        self._record()

    def copy(self, source: str, target: str) -> None:
        super().copy(source, target)
        self._record()


class WormStorage(Layer):
    """Write once, read many: an object cannot be deleted or replaced before `retention` seconds have passed."""

    def __init__(self, inner: Storage, retention: float, clock: Callable[[], float] = time.time) -> None:
        super().__init__(inner)
        self.capabilities = inner.capabilities.replace(retention=True)
        self._retention = retention
        self._clock = clock

    def _check(self, key: str) -> None:
        if self.inner.exists(key) and self.inner.stat(key).modified + self._retention > self._clock():
            raise AccessDenied(f"object '{key}' is locked by its retention", key=key)

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        if not if_absent:
            self._check(key)
        return super().put(key, body, size, if_absent)

    def delete(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        for key in wanted:
            self._check(key)
        super().delete(wanted)

    def copy(self, source: str, target: str) -> None:
        self._check(target)
        super().copy(source, target)
