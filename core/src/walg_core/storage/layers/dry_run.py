"""A storage that can be read but not changed: what would be changed is logged."""

from walg_core.errors import IntegrityError, ObjectExists
from walg_core.observe import log
from walg_core.pipeline.reader import pieces
from walg_core.storage.api import ObjectInfo
from walg_core.storage.layers.base import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from walg_core.pipeline.reader import Reader


class DryRunStorage(Layer):
    """Puts read their body to the end, so that sizes are right; then nothing is stored."""

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        if if_absent and self.inner.exists(key):
            raise ObjectExists(key)
        total = sum(map(len, pieces(body)))
        if size is not None and size != total:
            raise IntegrityError(f"put '{key}': the body has {total} bytes, {size} were announced")
        log.info(f"dry run: would store '{key}' ({total} bytes)")
        return total

    def delete(self, keys: "Iterable[str]") -> None:
        for key in keys:
            log.info(f"dry run: would delete '{key}'")

    def delete_versions(self, objects: "Iterable[ObjectInfo]") -> None:
        for info in objects:
            log.info(f"dry run: would delete '{info.key}' version {info.version}")

    def copy(self, source: str, target: str) -> None:
        self.inner.stat(source)
        log.info(f"dry run: would copy '{source}' to '{target}'")
