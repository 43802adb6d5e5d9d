"""Increments applied in place (spec/mysql.md 11): changed pages go straight into the restored tablespaces.

For what else the tool's prepare step has to do with an increment it finds a delta of one page for each of them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from walg_core.errors import IntegrityError
from walg_core.io.destination import Destination, Parts, components, write_all
from walg_core.pipeline.reader import CHUNK, Reader, read_all, read_exactly

from walg_mysql.xbstream.extract import Extraction, compressor_of, open_directory, unpacked
from walg_mysql.xbstream.files import FileReader
from walg_mysql.xbstream.sinks import Sink, WorkSink

MORE, LAST = b"xtra", b"XTRA"
_END = 0xFFFFFFFF
_FSP_HEADER = 8
_META_LIMIT = 1 << 16
_PAGE_SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)


@dataclass(frozen=True, slots=True)
class Meta:
    """A `.meta` file: sizes in bytes; `zip_size` 0 for uncompressed tablespaces."""

    page_size: int
    zip_size: int
    space_id: int

    @classmethod
    def parse(cls, text: bytes, name: str) -> Meta:
        """Raises IntegrityError naming the file."""
        values = {}
        for line in text.decode("ascii", "replace").splitlines():
            key, sign, value = line.partition("=")
            if sign and value.strip().isdigit():
                values[key.strip()] = int(value)
        try:
            found = cls(values["page_size"], values.get("zip_size", 0), values["space_id"])
        except KeyError as error:
            raise IntegrityError(f"{name} does not tell {error.args[0]}") from None
        if found.page_size not in _PAGE_SIZES:
            raise IntegrityError(f"{name}: a page size of {found.page_size} is none of InnoDB's")
        return found


def apply_delta(source: Reader, fd: int, path: str, page_size: int) -> bytes:
    """Write every page of a delta into the open file at number × page_size; returns the delta of its first page only.

    Raises IntegrityError for a delta that is damaged or cut.
    """
    small = b""
    last = False
    while not last:
        header = _exactly(source, page_size, path)
        if header[:4] not in (MORE, LAST):
            raise IntegrityError(f"the delta of {path} is damaged: a block begins with {header[:4]!r}")
        last = header[:4] == LAST
        numbers = struct.unpack(f">{page_size // 4 - 1}I", header[4:])
        if _END in numbers:
            numbers = numbers[: numbers.index(_END)]
        elif not last and not numbers:
            raise IntegrityError(f"the delta of {path} is damaged: an empty block")
        for number, count in _runs(numbers):
            at, left = number * page_size, count * page_size
            while left:
                piece = _exactly(source, min(left, CHUNK), path)
                write_all(fd, piece, path, at)
                small = small or _one_page(number, piece[:page_size], page_size)
                at, left = at + len(piece), left - len(piece)
    if source.read(1):
        raise IntegrityError(f"the delta of {path} goes on after its last block")
    return small or (LAST + struct.pack(">II", _END, _END)).ljust(page_size, b"\0")


def _one_page(number: int, page: bytes, page_size: int) -> bytes:
    return (LAST + struct.pack(">II", number, _END)).ljust(page_size, b"\0") + page


def _runs(numbers: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """`(first, count)` of pages that follow each other."""
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield numbers[start], at - start
            start = at


def _exactly(source: Reader, size: int, path: str) -> bytes:
    data = read_exactly(source, size)
    if len(data) < size:
        raise IntegrityError(f"the delta of {path} is cut short")
    return data


def space_of(first: bytes) -> int | None:
    """The tablespace that a file with this beginning holds; None when it is not an InnoDB file."""
    if len(first) < 38 or int.from_bytes(first[24:26], "big") != _FSP_HEADER:
        return None
    return int.from_bytes(first[34:38], "big")


def tablespaces(base: Destination) -> dict[int, Parts]:
    """Space ids of the `.ibd` files below a data directory. Raises IntegrityError when two have the same."""
    found: dict[int, Parts] = {}
    for directory, _, names in os.walk(base.path):
        for name in sorted(names):
            if not name.endswith(".ibd"):
                continue
            parts = components(os.path.relpath(os.path.join(directory, name), base.path))
            space = _space_at(base, parts)
            if space is None:
                continue
            if space in found:
                raise IntegrityError(
                    f"two files of {base.path} hold tablespace {space}: {_text(found[space])} and {_text(parts)}",
                    hint="the directory is not that of one restored backup",
                )
            found[space] = parts
    return found


def _space_at(base: Destination, parts: Parts) -> int | None:
    try:
        return space_of(base.read_file(parts, 38) or b"")
    except NotADirectoryError:
        return None


def _text(parts: Parts) -> str:
    return os.fsdecode(b"/".join(parts))


class DeltaExtraction(Extraction):
    """An increment: pages go into `base`, everything else, with one-page deltas, into `destination`."""

    def __init__(self, base: Destination, destination: Destination) -> None:
        super().__init__(destination)
        self.base = base
        self.applied = 0
        self._spaces = tablespaces(base)
        self._metas: dict[str, Meta] = {}
        self._waiting: list[str] = []

    def open_sink(self, path: str) -> Sink:
        name, method = compressor_of(path)
        if name.endswith(".meta"):
            return WorkSink(path, lambda source: self._keep_meta(unpacked(source, method), name))
        if name.endswith(".delta"):
            return WorkSink(path, lambda source: self._delta(unpacked(source, method), name))
        return super().open_sink(path)

    def _keep_meta(self, source: Reader, name: str) -> None:
        text = read_all(source, _META_LIMIT)
        if source.read(1):
            raise IntegrityError(f"{name} is too large for a .meta file")
        self._metas[name.removesuffix(".meta")] = Meta.parse(text, name)
        self._write(components(name), text)

    def _delta(self, source: Reader, name: str) -> None:
        table = name.removesuffix(".delta")
        meta = self._metas.get(table)
        target = self._target(table, meta) if meta else None
        if meta and target:
            self._apply(source, target, meta, name)
        else:
            self.copy(source, components(name))
            if meta is None:
                self._waiting.append(name)

    def _target(self, table: str, meta: Meta) -> Parts | None:
        """The file of the base that holds the tablespace; None when it is new."""
        found = self._spaces.get(meta.space_id)
        if found:
            return found
        parts = components(table)
        return parts if _space_at(self.base, parts) == meta.space_id else None

    def _apply(self, source: Reader, target: Parts, meta: Meta, name: str) -> None:
        fd = self.base.open_file(target)
        try:
            small = apply_delta(source, fd, os.path.join(self.base.path, _text(target)), meta.page_size)
        except BaseException:
            os.close(fd)
            raise
        self.base.close_file(fd)
        # Under the increment's own name: of a renamed table the tool finds the old file by its space id.
        self._write(components(name), small)
        self.applied += 1

    def _write(self, parts: Parts, data: bytes) -> None:
        with self.created(parts) as fd:
            os.ftruncate(fd, 0)
            write_all(fd, data, _text(parts), 0)

    def complete(self) -> None:
        """Deltas that came before their `.meta`."""
        for name in self._waiting:
            meta = self._metas.get(name.removesuffix(".delta"))
            if meta is None:
                raise IntegrityError(f"the increment has {name} without its .meta")
            target = self._target(name.removesuffix(".delta"), meta)
            if target is None:
                continue
            fd = self.destination.open_file(components(name), write=False)
            with os.fdopen(fd, "rb", buffering=0) as file:
                self._apply(FileReader(file.fileno(), borrowed=True), target, meta, name)


def extract_delta(source: Reader, data_directory: str, incremental_directory: str) -> int:
    """Apply an increment's stream to a restored backup; returns the number of tablespaces changed. Closes `source`.

    After a failure the data directory is neither the old state nor the new one: the base must be fetched again.
    """
    try:
        with open_directory(data_directory) as base, open_directory(incremental_directory) as rest:
            extraction = DeltaExtraction(base, rest)
            extraction.run(source)
            rest.finish()
            base.finish()
            return extraction.applied
    finally:
        source.close()
