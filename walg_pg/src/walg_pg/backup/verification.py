"""`--verify`: page checksums on the fly, without false alarms for pages written meanwhile (spec 7 and 16 item 11)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from walg_core.observe import log

from walg_pg.backup.checksums import checksums
from walg_pg.backup.contents import DataFiles, FileContent
from walg_pg.backup.increments import SEGMENT_BYTES, IncrementContent
from walg_pg.backup.pages import Blocks, Headers
from walg_pg.backup.walk import Found

REPORTED = 10
"""Corrupt blocks recorded per file unless all are wanted."""
_TRIES = 4
_PAUSE = 0.03
_CERTAIN = 100


class Verification:
    """Checks pages that pass by and counts what is damaged. Used by several threads at once."""

    def __init__(self, files: DataFiles, page: int, start_lsn: int, store_all: bool = False) -> None:
        """Pages whose LSN is not below `start_lsn` are written again by recovery and count as good."""
        self.page = page
        self.start_lsn = start_lsn
        self.store_all = store_all
        self.pages = 0
        self.corrupt = 0
        self.damaged_files = 0
        self._files = files
        self._lock = threading.Lock()

    def whole(self, content: FileContent, found: Found, fd: int) -> Any:
        """`content` with its pages checked, or as it is when it has none."""
        if found.relation is None or not content.size:
            return content
        if content.size % self.page:
            log.warning(f"{found.path}: its size is no multiple of {self.page}; its pages are not checked")
            return content
        return Checked(self, content, found, fd, 0, None)

    def increment(self, content: IncrementContent, found: Found, fd: int) -> Any:
        """`content` with the pages in the increment checked."""
        return Checked(self, content, found, fd, 16 + 4 * len(content.blocks), content.blocks)

    def bad_blocks(self, data: Any, count: int, blocks: Blocks, found: Found, fd: int) -> list[int]:
        """Those of `blocks` (numbers within the file) whose page in `data` is damaged for good."""
        absolute = blocks + np.uint32(found.segment * (SEGMENT_BYTES // self.page))
        heads = Headers(data, count, self.page)
        computed = checksums(data, count, self.page, absolute)
        current = heads.lsn >= np.uint64(self.start_lsn)
        wrong = (heads.checksum != 0) & (heads.checksum != computed)
        suspects = np.flatnonzero(~heads.new & ~current & (wrong | ~heads.sane))
        with self._lock:
            self.pages += count
        bad = self._confirmed([(int(blocks[place]), int(absolute[place])) for place in suspects], fd)
        for block, verdict in bad:
            log.warning(f"Corruption found in {found.path}/[{block}], {verdict}")
        return [block for block, _ in bad]

    def _confirmed(self, suspects: list[tuple[int, int]], fd: int) -> list[tuple[int, str]]:
        """Those pages (number in file, absolute number) that stay wrong when read again, and what is wrong.

        The server may have been writing them; pauses are shared by all suspects, and left out once damage is certain.
        """
        verdicts: dict[int, str] = {}
        for attempt in range(_TRIES):
            if not suspects:
                break
            if self.corrupt < _CERTAIN:
                time.sleep(_PAUSE * attempt)
            checked = [(block, absolute, self._look(block, absolute, fd)) for block, absolute in suspects]
            suspects = [(block, absolute) for block, absolute, verdict in checked if verdict]
            verdicts = {block: verdict for block, _, verdict in checked if verdict}
        return list(verdicts.items())

    def _look(self, block: int, absolute: int, fd: int) -> str:
        """Read a page and say what is wrong with it, "" when nothing is."""
        try:
            data = self._files.read(fd, self.page, block * self.page)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        if len(data) < self.page:
            return ""
        heads = Headers(data, 1, self.page)
        if heads.new[0] or heads.lsn[0] >= self.start_lsn:
            return ""
        stored = int(heads.checksum[0])
        computed = int(checksums(data, 1, self.page, np.array([absolute], np.uint32))[0])
        if stored and stored != computed:
            return f"expected {stored:x}, found {computed:x}"
        return "" if heads.sane[0] else "its header makes no sense"

    def count(self, bad: list[int]) -> tuple[int, tuple[int, ...]] | None:
        """Count one file's corrupt blocks; what `Files` records of them."""
        if not bad:
            return None
        with self._lock:
            self.corrupt += len(bad)
            self.damaged_files += 1
        return len(bad), tuple(bad if self.store_all else bad[:REPORTED])

    def report(self) -> None:
        """One line of summary."""
        if self.corrupt:
            log.error(
                f"Page verification: {self.corrupt} corrupt pages in {self.damaged_files} files"
                f" ({self.pages} pages checked); the blocks are recorded in files_metadata.json"
            )
        else:
            log.info(f"Page verification: {self.pages} pages checked, none corrupt")


class Checked:
    """Data of an entry whose pages are checked while it passes.

    `skip` bytes come before the pages; `blocks` are their numbers, None for 0, 1, 2…
    """

    def __init__(
        self, verification: Verification, content: Any, found: Found, fd: int, skip: int, blocks: Blocks | None
    ) -> None:
        self.size: int = content.size
        self.corrupt: tuple[int, tuple[int, ...]] | None = None
        self._verification = verification
        self._content = content
        self._found = found
        self._fd = fd
        self._skip = skip
        self._blocks = blocks
        self._rest = b""
        self._page_index = 0
        self._bad: list[int] = []
        self.close: Callable[[], None] = content.close

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; empty only at the end, when `corrupt` is known."""
        piece: bytes = self._content.read(size)
        if not piece:
            self._finish()
            return piece
        view = memoryview(piece)
        if self._skip:
            passed = min(self._skip, len(view))
            self._skip -= passed
            view = view[passed:]
        page = self._verification.page
        if self._rest:
            missing = page - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) == page:
                self._check(self._rest, 1)
                self._rest = b""
        whole = len(view) // page
        if whole:
            self._check(view, whole)
        if len(view) > whole * page:
            self._rest = bytes(view[whole * page :])
        return piece

    def _check(self, data: Any, count: int) -> None:
        start = self._page_index
        self._page_index += count
        if self._blocks is None:
            blocks = np.arange(start, start + count, dtype=np.uint32)
        else:
            blocks = self._blocks[start : start + count]
        self._bad += self._verification.bad_blocks(data, count, blocks, self._found, self._fd)

    def _finish(self) -> None:
        if self._bad and self.corrupt is None:
            self.corrupt = self._verification.count(self._bad)
