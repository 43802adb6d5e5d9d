"""Readers that count what passes."""

from walg_core.pipeline.reader import Reader


class CountingReader:
    """Passes bytes through; `count` is how many so far. Rewinding it (a retry) rewinds the count too."""

    def __init__(self, source: Reader) -> None:
        self.source = source
        self.count = 0
        if hasattr(source, "seek"):
            self.seek = self._seek

    def read(self, size: int = -1, /) -> bytes:
        piece = self.source.read(size)
        self.count += len(piece)
        return piece

    def _seek(self, offset: int, whence: int = 0, /) -> int:
        self.count = self.source.seek(offset, whence)  # type: ignore[attr-defined]
        return self.count

    def tell(self) -> int:
        return self.count

    def close(self) -> None:
        self.source.close()
