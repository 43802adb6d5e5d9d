"""Unpacking an xbstream into a directory (spec/mysql.md 10): nothing leaves it, nothing damaged or cut passes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from walg_core.errors import EngineError, IntegrityError
from walg_core.io.destination import Destination, Parts, components, show, write_all
from walg_core.pipeline.reader import CHUNK, Reader

from walg_mysql.xbstream.chunks import END, read_chunks
from walg_mysql.xbstream.holes import repunch
from walg_mysql.xbstream.sinks import FileSink, Sink, WorkSink

if TYPE_CHECKING:
    from walg_core.compression.api import Compressor

_METHODS = {".lz4": "lz4", ".zst": "zstd", ".br": "brotli", ".gz": "gzip", ".lzma": "lzma"}
_REFUSED = {
    ".qp": "compressed with qpress, which only the tools can unpack",
    ".xbcrypt": "encrypted by the backup tool, which only its own programs can decrypt",
}
_LARGEST_MODE = 0o666


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def open_directory(path: str) -> Destination:
    """A directory to extract into, made when missing (0777 & ~umask, as the tools do). The caller closes it."""
    return Destination(path, mode=0o777 & ~_umask())


def compressor_of(name: str) -> tuple[str, Compressor | None]:
    """A member's name without the suffix of its compression, and what unpacks it. EngineError for what cannot be."""
    for suffix, why in _REFUSED.items():
        if name.endswith(suffix):
            raise EngineError(
                f"the backup's file {name} is {why}",
                hint="restore through the tool: WALG_STREAM_RESTORE_COMMAND with xbstream or mbstream, then"
                " `--decompress` or `--decrypt`, without --use-xbtool-extract",
            )
    stem, suffix = os.path.splitext(name)
    if suffix not in _METHODS or not os.path.basename(stem):
        return name, None
    from importlib import import_module

    method: Compressor = import_module(f"walg_core.compression.{_METHODS[suffix]}").compressor
    return stem, method


class Extraction:
    """One stream's way into `destination`. `files` counts the files made."""

    def __init__(self, destination: Destination, *, decompress: bool = True) -> None:
        self.destination = destination
        self.decompress = decompress
        self.files = 0
        mask = _umask()
        self.mode, self.parents = _LARGEST_MODE & ~mask, 0o777 & ~mask
        self._made: set[Parts] = set()
        self._sinks: dict[str, Sink] = {}

    def run(self, source: Reader) -> None:
        """Extract all of `source`; durable after the destination's `finish`. Does not close `source`.

        Raises IntegrityError for damage and for a stream that ends inside a file, UnsafeName, EngineError, OSError.
        """
        try:
            for chunk in read_chunks(source):
                sink = self._sinks.get(chunk.path)
                if sink is None:
                    sink = self._sinks[chunk.path] = self.open_sink(chunk.path)
                if chunk.kind == END:
                    self._sinks.pop(chunk.path).end()
                    self.files += 1
                else:
                    sink.put(chunk)
            if self._sinks:
                names = ", ".join(sorted(self._sinks)[:5])
                raise IntegrityError(f"the xbstream ends before the end of {names}", hint="the backup is cut short")
            self.complete()
        finally:
            for left in self._sinks.values():
                left.abort()
            self._sinks.clear()

    def complete(self) -> None:
        """Called once when every file has ended."""

    def open_sink(self, path: str) -> Sink:
        """Where the bytes of the member `path` go."""
        name, method = compressor_of(path) if self.decompress else (path, None)
        parts = components(name)
        if method is None:
            return FileSink(self.destination, self.create(parts), os.path.join(self.destination.path, show(parts)))
        return WorkSink(path, lambda source: self._unpack(source, method, parts))

    def create(self, parts: Parts) -> int:
        """A descriptor of the file: fresh, or the same again when this stream has made it before."""
        if parts in self._made:
            return self.destination.open_file(parts)
        fd = self.destination.create(parts, self.mode, parents=self.parents)
        self._made.add(parts)
        return fd

    @contextmanager
    def created(self, parts: Parts) -> Iterator[int]:
        """`create` for the length of a block."""
        fd = self.create(parts)
        try:
            yield fd
        except BaseException:
            os.close(fd)
            raise
        self.destination.close_file(fd)

    def copy(self, source: Reader, parts: Parts) -> None:
        """The rest of `source` into a file."""
        with self.created(parts) as fd:
            path = os.path.join(self.destination.path, show(parts))
            at = 0
            while piece := source.read(CHUNK):
                write_all(fd, piece, path, at)
                at += len(piece)
            if parts[-1].endswith(b".ibd"):
                repunch(fd)

    def _unpack(self, source: Reader, method: Compressor, parts: Parts) -> None:
        self.copy(unpacked(source, method), parts)


def unpacked(source: Reader, method: Compressor | None) -> Reader:
    """The plain bytes; of a member without any bytes there are none."""
    if method is None:
        return source
    at_end = getattr(source, "at_end", None)
    return source if at_end and at_end() else method.decompress(source)


def extract(source: Reader, directory: str, *, decompress: bool = True) -> int:
    """Unpack a stream into a directory and make it durable; returns the number of files. Closes `source`."""
    try:
        with open_directory(directory) as destination:
            extraction = Extraction(destination, decompress=decompress)
            extraction.run(source)
            destination.finish()
            return extraction.files
    finally:
        source.close()
