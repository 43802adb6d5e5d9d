"""One DEBUG line per request with its duration, and counters that tests of request budgets read."""

import time
from collections import Counter

from walg_core.observe import log
from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.layers.base import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from walg_core.pipeline.reader import Reader

    Result = TypeVar("Result")


class TracingStorage(Layer):
    """`requests` counts calls by operation: `list`, `stat`, `open`, `put`, `delete`, `copy`."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.requests: Counter[str] = Counter()

    def _timed(self, operation: str, subject: str, function: "Callable[[], Result]") -> "Result":
        self.requests[operation] += 1
        started = time.monotonic()
        outcome = "ok"
        try:
            return function()
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
            raise
        finally:
            log.debug(f"{self.name}: {operation} '{subject}' {1000 * (time.monotonic() - started):.1f} ms {outcome}")

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        return self._timed("list", prefix, lambda: self.inner.list(prefix, start_after))

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self._timed("list", prefix, lambda: self.inner.list_dir(prefix))

    def list_versions(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self._timed("list", prefix, lambda: self.inner.list_versions(prefix))

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return self._timed("list", prefix, lambda: self.inner.list_dirs(prefix))

    def stat(self, key: str) -> ObjectInfo:
        return self._timed("stat", key, lambda: self.inner.stat(key))

    def exists(self, key: str) -> bool:
        return self._timed("stat", key, lambda: self.inner.exists(key))

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        return self._timed("open", key, lambda: self.inner.open(key, offset, length))

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        return self._timed("put", key, lambda: self.inner.put(key, body, size, if_absent))

    def delete(self, keys: "Iterable[str]") -> None:
        wanted = [*keys]
        subject = wanted[0] if len(wanted) == 1 else f"{len(wanted)} objects"
        self._timed("delete", subject, lambda: self.inner.delete(wanted))

    def delete_versions(self, objects: "Iterable[ObjectInfo]") -> None:
        self._timed("delete", "versions", lambda: self.inner.delete_versions(objects))

    def copy(self, source: str, target: str) -> None:
        self._timed("copy", source, lambda: self.inner.copy(source, target))
