"""The binlogs in a storage: `binlog_005/<name>.<extension>` (spec/mysql.md 4, 7.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.errors import EngineError
from walg_core.pipeline import transfer

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.pipeline.reader import Reader
    from walg_core.storage.api import Storage

FOLDER = "binlog_005/"
_OBJECT = re.compile(r"(?P<prefix>.+)\.(?P<number>[0-9]+)(?:\.(?P<extension>[A-Za-z][A-Za-z0-9]*))?")


def split_name(name: str) -> tuple[str, int]:
    """`mysql-bin.000007` → (`mysql-bin`, 7). Raises EngineError when there is no number after the last dot."""
    prefix, dot, number = name.rpartition(".")
    if not dot or not prefix or not (number.isascii() and number.isdigit()):
        raise EngineError(f"{name!r} is not the name of a binlog: expected PREFIX.NUMBER, as mysql-bin.000007")
    return prefix, int(number)


@dataclass(frozen=True, slots=True)
class Binlog:
    """An archived binlog. `size` is the stored size in bytes, `modified_ns` the time of its upload."""

    name: str
    key: str
    extension: str
    modified_ns: int
    size: int

    @property
    def order(self) -> tuple[int, str, int]:
        """Replay order: the order of uploading; names decide between equal times (spec/mysql.md 14, row 6)."""
        return (self.modified_ns, *split_name(self.name))

    def open(self, context: Context, storage: Storage) -> Reader:
        """Its plain bytes."""
        return transfer.read(context, storage, self.key, self.extension)


def list_binlogs(storage: Storage) -> list[Binlog]:
    """All archived binlogs in replay order; objects whose names are not binlogs' are passed over."""
    found = []
    for info in storage.list_dir(FOLDER):
        parts = _OBJECT.fullmatch(info.key.removeprefix(FOLDER))
        if parts:
            name = f"{parts['prefix']}.{parts['number']}"
            found.append(Binlog(name, info.key, parts["extension"] or "", info.modified_ns, info.size))
    return sorted(found, key=lambda binlog: binlog.order)
