"""A storage that is configured but cannot be used: it refuses everything and says why."""

# ruff: noqa: ARG002 - every operation of the contract is refused whatever its arguments are

from walg_core.errors import StorageError, WalgError
from walg_core.storage.api import ObjectInfo, Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from walg_core.pipeline.reader import Reader


class DeadStorage(Storage):
    """Stands for a storage that cannot be configured: every operation says why."""

    def __init__(self, name: str, error: WalgError | None) -> None:
        self.name = name
        self.description = f"{name} (not configured)"
        self._error = error

    def _refusal(self) -> StorageError:
        return StorageError(f"storage '{self.name}' cannot be configured: {self._error}")

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        raise self._refusal()

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        raise self._refusal()

    def stat(self, key: str) -> ObjectInfo:
        raise self._refusal()

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        raise self._refusal()

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        raise self._refusal()

    def delete(self, keys: "Iterable[str]") -> None:
        raise self._refusal()
