"""Objects in memory, for tests (spec/storages.md 4.7): not reachable by configuration."""

import threading
import time
from bisect import bisect_right

from walg_core.errors import IntegrityError, ObjectExists, ObjectNotFound
from walg_core.pipeline.reader import BytesReader, Reader, read_all
from walg_core.storage.api import Capabilities, ObjectInfo, Storage
from walg_core.storage.keys import check_key, check_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class MemoryStorage(Storage):
    """A faithful storage without a disk. `clock` gives the modification times (Unix seconds)."""

    remote = False
    capabilities = Capabilities(put_if_absent=True, server_side_copy=True)

    def __init__(self, name: str = "default", clock: "Callable[[], float]" = time.time) -> None:
        self.name = name
        self.description = f"memory://{name}"
        self._clock = clock
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        check_prefix(prefix)
        with self._lock:
            found = sorted((k, len(d), at) for k, (d, at) in self._objects.items() if k.startswith(prefix))
        start = bisect_right(found, start_after, key=lambda row: row[0]) if start_after else 0
        return (ObjectInfo(*row) for row in found[start:])

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        depth = len(check_prefix(prefix))
        with self._lock:
            below = [k[depth:] for k in self._objects if k.startswith(prefix)]
        return sorted({f"{prefix}{rest.partition('/')[0]}/" for rest in below if "/" in rest})

    def stat(self, key: str) -> ObjectInfo:
        data, modified = self._find(key)
        return ObjectInfo(key, len(data), modified)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        data, _ = self._find(key)
        end = len(data) if length is None else offset + length
        return BytesReader(memoryview(data)[offset:end])

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        check_key(key)
        if if_absent and key in self._objects:
            raise ObjectExists(key)
        data = read_all(body)
        if size is not None and size != len(data):
            raise IntegrityError(f"put '{key}': the body has {len(data)} bytes, {size} were announced")
        with self._lock:
            if if_absent and key in self._objects:
                raise ObjectExists(key)
            self._objects[key] = (data, self._clock())
        return len(data)

    def delete(self, keys: "Iterable[str]") -> None:
        for key in keys:
            with self._lock:
                self._objects.pop(check_key(key), None)

    def copy(self, source: str, target: str) -> None:
        data, _ = self._find(source)
        with self._lock:
            self._objects[check_key(target)] = (data, self._clock())

    def _find(self, key: str) -> tuple[bytes, float]:
        with self._lock:
            found = self._objects.get(check_key(key))
        if found is None:
            raise ObjectNotFound(key)
        return found
