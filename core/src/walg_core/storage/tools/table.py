"""The table of `st ls` and `st stat`, byte for byte as the original prints it (spec/storages.md 6.1)."""

import time
from collections.abc import Iterable, Sequence

from walg_core.storage.api import ObjectInfo, Storage

_HEADER = ("type", "size", "last modified", "name")
_NO_TIME = "0001-01-01 00:00:00 +0000 UTC"


def go_time(nanoseconds: int, local: bool) -> str:
    """Go's default text of a time, in the local zone or UTC."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    moment = time.localtime(seconds) if local else time.gmtime(seconds)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    zone = time.strftime("%z %Z", moment) if local else "+0000 UTC"
    return time.strftime("%Y-%m-%d %H:%M:%S", moment) + digits + " " + zone


def _lead(storage: Storage, folder: str) -> str:
    """The original shows a file system's folders with a slash, except below its very root (spec/storages.md 4.1)."""
    below_root = folder or getattr(storage, "prefix", "")
    return "/" if storage.file_system and below_root else ""


def folder_rows(storage: Storage, folder: str) -> list[tuple[str, ...]]:
    """Sub-folders, then objects, of a folder ("" or with its final slash)."""
    lead = _lead(storage, folder)
    rows: list[tuple[str, ...]] = [
        ("dir", "0", _NO_TIME, lead + each[len(folder) :], "", "") for each in storage.list_dirs(folder)
    ]
    rows.extend(object_row(storage, info, info.key[len(folder) :]) for info in storage.list_dir(folder))
    return rows


def tree_rows(storage: Storage, folder: str) -> list[tuple[str, ...]]:
    """All objects below a folder, level by level."""
    lead = _lead(storage, folder)
    found = [(info, info.key[len(folder) :]) for info in storage.list(folder)]
    found.sort(key=_by_level)
    return [object_row(storage, info, lead + name if "/" in name else name) for info, name in found]


def version_rows(storage: Storage, folder: str, recursive: bool) -> list[tuple[str, ...]]:
    """Every version below a folder; the markers of deleted objects come last."""
    found = [(info, info.key[len(folder) :]) for info in storage.list_versions(folder)]
    found = [pair for pair in found if recursive or "/" not in pair[1]]
    found.sort(key=lambda pair: pair[0].deleted)
    return [object_row(storage, info, name, mark=info.version is not None) for info, name in found]


def object_row(storage: Storage, info: ObjectInfo, name: str, mark: bool = False) -> tuple[str, ...]:
    moment = go_time(info.modified_ns, storage.file_system)
    marks = [word for word, holds in (("LATEST", info.latest), ("DELETE", info.deleted)) if holds and mark]
    return ("obj", str(info.size), moment, name, info.version or "", " ".join(marks))


def _by_level(pair: tuple[ObjectInfo, str]) -> tuple[int, list[str]]:
    parts = pair[1].split("/")
    return len(parts), parts


def render(rows: Iterable[Sequence[str]]) -> str:
    """The table with its header. Columns are as wide as their cells; a line's last cell widens nothing."""
    body = list(rows)
    widths = [max([len(row[column]) for row in body], default=0) for column in range(5)]
    widths[:3] = [max(width, len(title)) for width, title in zip(widths[:3], _HEADER[:3], strict=True)]
    lines = [_HEADER, *body]
    return "".join(
        "".join(cell.ljust(widths[column] + 1) for column, cell in enumerate(line[:-1])) + line[-1] + "\n"
        for line in lines
    )
