"""Several storages as one: reads find the first that has an object, writes and deletions reach every copy.

The policy that spec/storages.md 5.3 calls "Merge", with one difference: what a storage that failed might hold is
never called missing.
"""

import heapq
from itertools import groupby

from walg_core.errors import AbsenceUnsure, ObjectNotFound, StorageError
from walg_core.storage.api import ObjectInfo, Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from walg_core.pipeline.reader import Reader

    Result = TypeVar("Result")


class UnionStorage(Storage):
    """`storages` in their order of preference; `dead` names configured ones that could not be asked at all."""

    def __init__(self, storages: "Sequence[Storage]", dead: "Sequence[str]" = ()) -> None:
        self.storages = [*storages]
        self.dead = [*dead]
        self.name = storages[0].name
        self.description = " + ".join(storage.description for storage in storages)
        self.capabilities = storages[0].capabilities.replace(put_if_absent=False)

    def _first(self, key: str, ask: "Callable[[Storage], Result]") -> "Result":
        failures = [f'storage "{name}" is not alive' for name in self.dead]
        for storage in self.storages:
            try:
                return ask(storage)
            except ObjectNotFound:
                continue
            except StorageError as error:
                failures.append(f'storage "{storage.name}": {error}')
        if failures:
            raise AbsenceUnsure(
                f"object '{key}' is not in the storages that answered, and not all did: {'; '.join(failures)}", key=key
            )
        raise ObjectNotFound(key)

    def stat(self, key: str) -> ObjectInfo:
        return self._first(key, lambda storage: storage.stat(key))

    def exists(self, key: str) -> bool:
        def ask(storage: Storage) -> bool:
            if storage.exists(key):
                return True
            raise ObjectNotFound(key)

        try:
            return self._first(key, ask)
        except ObjectNotFound:
            return False

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        return self._first(key, lambda storage: storage.open(key, offset, length))

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        return _merged([storage.list(prefix, start_after) for storage in self.storages])

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return _merged([storage.list_dir(prefix) for storage in self.storages])

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return sorted({each for storage in self.storages for each in storage.list_dirs(prefix)})

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        if if_absent and self.exists(key):
            from walg_core.errors import ObjectExists

            raise ObjectExists(key)
        holder = next((storage for storage in self.storages if storage.exists(key)), self.storages[0])
        return holder.put(key, body, size, if_absent)

    def delete(self, keys: "Iterable[str]") -> None:
        wanted = [*keys]
        for storage in self.storages:
            storage.delete(wanted)

    def copy(self, source: str, target: str) -> None:
        copied = False
        for storage in self.storages:
            try:
                storage.copy(source, target)
                copied = True
            except ObjectNotFound:
                continue
        if not copied:
            raise ObjectNotFound(source)

    def close(self) -> None:
        """The storages belong to whoever opened them."""

    def identity(self) -> str:
        return " + ".join(storage.identity() for storage in self.storages)


def _merged(listings: "list[Iterator[ObjectInfo]]") -> "Iterator[ObjectInfo]":
    """Sorted by key; of equal keys the first storage's entry."""
    for _, same in groupby(heapq.merge(*listings, key=_key), key=_key):
        yield next(same)


def _key(info: ObjectInfo) -> str:
    return info.key
