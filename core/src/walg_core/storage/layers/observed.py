"""The outermost layer: counts uploads and tells plugins about every object that became durable."""

import time

from walg_core.observe import metrics, progress
from walg_core.storage.api import Storage
from walg_core.storage.layers.base import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.pipeline.reader import Reader
    from walg_core.plugins import Catalog


class ObservedStorage(Layer):
    """Counts every put, tried and failed (spec/config.md 14), and calls `walg_object_written` where a plugin has it."""

    def __init__(self, inner: Storage, catalog: "Catalog") -> None:
        super().__init__(inner)
        self._catalog = catalog

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        reader = self.inner.open(key, offset, length)
        tracker = progress.transfers()
        return progress.tracked(reader, tracker) if tracker else reader

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        metrics.uploaded_files.add()
        started = time.monotonic()
        try:
            tracker = progress.transfers()
            shown = progress.tracked(body, tracker) if tracker else body
            stored = self.inner.put(key, shown, size, if_absent)
        except BaseException:
            metrics.uploaded_files_failed.add()
            raise
        if self._catalog.hooks.get("walg_object_written"):
            from walg_core.events import ObjectWritten
            from walg_core.hooks import notify

            event = ObjectWritten(self.name, key, stored, time.monotonic() - started)
            notify(self._catalog, "walg_object_written", event=event)
        return stored
