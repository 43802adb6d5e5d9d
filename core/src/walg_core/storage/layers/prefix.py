"""A view of a storage whose keys are relative to a prefix."""

from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.keys import check_key, check_prefix
from walg_core.storage.layers.base import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from walg_core.pipeline.reader import Reader


class PrefixStorage(Layer):
    """All operations below `prefix` (which ends in `/`). Errors name the whole key, as people find it in the bucket."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        super().__init__(storage)
        self.prefix = check_prefix(prefix)
        self.description = f"{storage.description.rstrip('/')}/{prefix.rstrip('/')}"

    def _whole(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _relative(self, infos: "Iterable[ObjectInfo]") -> "Iterator[ObjectInfo]":
        depth = len(self.prefix)
        for info in infos:
            yield info.replace(key=info.key[depth:])

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        after = self.prefix + start_after if start_after else None
        return self._relative(self.inner.list(self.prefix + check_prefix(prefix), after))

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return [each[len(self.prefix) :] for each in self.inner.list_dirs(self.prefix + check_prefix(prefix))]

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self._relative(self.inner.list_dir(self.prefix + check_prefix(prefix)))

    def list_versions(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self._relative(self.inner.list_versions(self.prefix + check_prefix(prefix)))

    def stat(self, key: str) -> ObjectInfo:
        return self.inner.stat(self._whole(key)).replace(key=key)

    def exists(self, key: str) -> bool:
        return self.inner.exists(self._whole(key))

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        return self.inner.open(self._whole(key), offset, length)

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        return self.inner.put(self._whole(key), body, size, if_absent)

    def delete(self, keys: "Iterable[str]") -> None:
        self.inner.delete(map(self._whole, keys))

    def delete_versions(self, objects: "Iterable[ObjectInfo]") -> None:
        self.inner.delete_versions(info.replace(key=self._whole(info.key)) for info in objects)

    def copy(self, source: str, target: str) -> None:
        self.inner.copy(self._whole(source), self._whole(target))
