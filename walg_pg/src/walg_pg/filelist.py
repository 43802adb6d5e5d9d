"""The list of a backup's files while it is being made, packed: a million files must not take half a gigabyte."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from walg_pg.sentinel import FileEntry, file_rows, names_text, pieces_of_list

_PIECE = 2000
"""Rows that are packed together; deflate, whose window is 32 KiB, takes a tenth of their text."""


class Names(Collection[str]):
    """Names of a tar's members, in order. Not for several threads at once."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._packed: list[bytes] = []
        self._last: list[str] = []
        self._count = 0
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """One more."""
        self._last.append(name)
        self._count += 1
        if len(self._last) == _PIECE:
            self._packed.append(zlib.compress(names_text(self._last), 1))
            self._last = []

    def pieces(self) -> Iterator[bytes]:
        """The names as the inside of a JSON list."""
        mark = b""
        for packed in self._packed:
            yield mark + zlib.decompress(packed)
            mark = b","
        if self._last:
            yield mark + names_text(self._last)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: object) -> bool:
        return any(each == name for each in self)

    def __iter__(self) -> Iterator[str]:
        for piece in self._packed:
            yield from json.loads(b"[" + zlib.decompress(piece) + b"]")
        yield from self._last


class FileList:
    """`files_metadata.json` as it grows. Several threads may add at once; a name is added once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packed: list[bytes] = []
        self._last: list[tuple[str, FileEntry]] = []
        self._sets: dict[str, Names] = {}

    def add(self, name: str, entry: FileEntry) -> None:
        """A row of `Files`."""
        with self._lock:
            self._last.append((name, entry))
            if len(self._last) == _PIECE:
                self._packed.append(zlib.compress(file_rows(self._last), 1))
                self._last = []

    def add_part(self, part: str, names: Iterable[str]) -> None:
        """A row of `TarFileSets`; `names` must not change any more."""
        listed = names if isinstance(names, Names) else Names(names)
        with self._lock:
            self._sets[part] = listed

    def pieces(self, databases: dict[str, Any]) -> Iterator[bytes]:
        """The object in pieces of moderate size, with `databases` as `DatabasesByNames`."""
        sets = ((part, names.pieces()) for part, names in self._sets.items())
        return pieces_of_list(self._rows(), sets, databases)

    def _rows(self) -> Iterator[bytes]:
        mark = b""
        for packed in self._packed:
            yield mark + zlib.decompress(packed)
            mark = b","
        if self._last:
            yield mark + file_rows(self._last)
