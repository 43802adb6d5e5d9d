"""`Layer`: a storage that passes every operation to the one it wraps. A layer overrides what it cares about."""

from walg_core.storage.api import ObjectInfo, Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from walg_core.pipeline.reader import Reader


class Layer(Storage):
    """Wraps `inner` and takes over its name, description, capabilities and identity."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.name = inner.name
        self.description = inner.description
        self.capabilities = inner.capabilities
        self.remote = inner.remote
        self.file_system = inner.file_system

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        return self.inner.list(prefix, start_after)

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return self.inner.list_dirs(prefix)

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self.inner.list_dir(prefix)

    def list_versions(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self.inner.list_versions(prefix)

    def stat(self, key: str) -> ObjectInfo:
        return self.inner.stat(key)

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        return self.inner.open(key, offset, length)

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        return self.inner.put(key, body, size, if_absent)

    def delete(self, keys: "Iterable[str]") -> None:
        self.inner.delete(keys)

    def delete_versions(self, objects: "Iterable[ObjectInfo]") -> None:
        self.inner.delete_versions(objects)

    def copy(self, source: str, target: str) -> None:
        self.inner.copy(source, target)

    def close(self) -> None:
        self.inner.close()

    def identity(self) -> str:
        return self.inner.identity()
