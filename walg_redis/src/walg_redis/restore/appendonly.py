"""An rdb backup for a server with `appendonly yes`: it reads its AOF only, and without one it comes up empty.

A multi-part AOF may consist of an RDB as its base and an increment that is still empty (Redis' aof.c), so the restored
RDB is laid out as one, beside `dump.rdb` and without taking its space twice.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, BinaryIO

from walg_core.io.atomic import sync_dir, write_file
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK

from walg_redis.restore.check import end_of_rdb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from walg_core.settings.config import Config

_HINT = (
    "start it with `appendonly no`, and switch it on while it runs (CONFIG SET appendonly yes); or restore with"
    " --with-aof and without WALG_STREAM_RESTORE_COMMAND"
)


def wanted(config: Config, data: str, *, asked: bool) -> bool | None:
    """Whether the server of the directory `data` reads an AOF: by the flag, by its configuration, by what lies there.

    None when nothing tells.
    """
    if asked:
        return True
    said = _configured(config.get("WALG_REDIS_CONF_PATH"), data)
    if said is not None:
        return said
    folder = os.path.join(data, config.get("WALG_REDIS_APPENDONLY_PATH"))
    return True if os.path.exists(os.path.join(folder, config.get("WALG_REDIS_APPENDONLY_MANIFEST"))) else None


def _configured(path: str, data: str) -> bool | None:
    """`appendonly` in a configuration file whose `dir` is `data`; None for another server's or no file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            values = dict(_directives(file.read()))
    except OSError:
        return None
    place = values.get("dir", "")
    if not place or os.path.realpath(place) != os.path.realpath(data):
        return None
    return values.get("appendonly", "no").lower() == "yes"


def _directives(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line.strip().startswith("#"):
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if len(words) == 2:
            yield words[0].lower(), words[1]


def warn(use: bool | None, *, placed: bool) -> None:
    """Say what a server with `appendonly yes` will make of a restored RDB that is not laid out as an AOF as well."""
    if placed or use is False:
        return
    if use:
        log.warning(f"the server has an AOF and will not read the restored RDB: {_HINT}")
    else:
        log.warning(f"should the server have `appendonly yes`, it will not read the restored RDB: {_HINT}")


def lay_out(rdb: str, folder: str, manifest: str) -> str:
    """Make an AOF of the file `rdb` in a new directory below `folder`, on the same file system; returns its path.

    `manifest` is the name of its manifest, from which the names of its files follow. Durable on return.
    """
    made = os.path.join(folder, "aof-of-rdb")
    os.mkdir(made, 0o755)
    name = manifest.removesuffix(".manifest")
    base, increment = f"{name}.1.base.rdb", f"{name}.1.incr.aof"
    with open(rdb, "rb") as file:
        end = end_of_rdb(file)
        # What `redis-cli --rdb -` leaves after the RDB would be taken for commands.
        if end < os.fstat(file.fileno()).st_size:
            write_file(os.path.join(made, base), _Head(file, end), mode=0o644)
        else:
            os.link(rdb, os.path.join(made, base))
    write_file(os.path.join(made, increment), b"", mode=0o644)
    text = f"file {base} seq 1 type b\nfile {increment} seq 1 type i\n"
    write_file(os.path.join(made, manifest), text.encode(), mode=0o644)
    sync_dir(made)
    return made


class _Head:
    """The first `left` bytes of a file."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file = file
        self._left = left

    def read(self, size: int = -1, /) -> bytes:
        piece = self._file.read(min(self._left, CHUNK if size < 0 else size))
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._left = 0
