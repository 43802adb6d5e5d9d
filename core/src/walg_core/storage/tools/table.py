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


def folder_rows(storage: Storage, folder: str) -> list[tuple[str, ...]]:
    """Sub-folders, then objects, of a folder ("" or with its final slash)."""
    rows = _dir_rows(storage, folder, (each[len(folder) :] for each in storage.list_dirs(folder)))
    rows.extend(object_row(storage, info, info.key[len(folder) :]) for info in storage.list_dir(folder))
    return rows


def tree_rows(storage: Storage, folder: str) -> list[tuple[str, ...]]:
    """All objects below a folder, level by level."""
    lead = _lead(storage, folder)
    found = [(info, info.key[len(folder) :]) for info in storage.list(folder)]
    found.sort(key=_by_level)
    return [object_row(storage, info, lead + name if "/" in name else name) for info, name in found]


def version_rows(storage: Storage, folder: str, recursive: bool) -> list[tuple[str, ...]]:
    """Every version below a folder, after its sub-folders; a folder's markers of deleted objects come last."""
    if storage.file_system:  # without versions: the plain listing
        return tree_rows(storage, folder) if recursive else folder_rows(storage, folder)
    found = [(info, info.key[len(folder) :]) for info in storage.list_versions(folder)]
    rows: list[tuple[str, ...]] = []
    if not recursive:
        below = sorted({name.partition("/")[0] + "/" for _, name in found if "/" in name})
        rows = _dir_rows(storage, folder, below)
        found = [pair for pair in found if "/" not in pair[1]]
    found.sort(key=lambda pair: (*_by_folder(pair[1]), pair[0].deleted))
    rows.extend(object_row(storage, info, name, mark=info.version is not None) for info, name in found)
    return rows


def _dir_rows(storage: Storage, folder: str, names: Iterable[str]) -> list[tuple[str, ...]]:
    """`names`: relative, with the final slash. Over SFTP the original shows them without (spec/storages.md 4.2)."""
    lead = _lead(storage, folder)
    shown = (lead + (name.rstrip("/") if _by_sftp(storage) else name) for name in names)
    return [("dir", "0", _NO_TIME, each, "", "") for each in shown]


def _lead(storage: Storage, folder: str) -> str:
    """A file system's folders have a leading slash in the original, on a local one except below its very root."""
    if not storage.file_system:
        return ""
    return "/" if folder or getattr(storage, "prefix", "") or _by_sftp(storage) else ""


def _by_sftp(storage: Storage) -> bool:
    return storage.file_system and storage.remote


def object_row(storage: Storage, info: ObjectInfo, name: str, mark: bool = False) -> tuple[str, ...]:
    moment = go_time(info.modified_ns, storage.file_system)
    marks = [word for word, holds in (("LATEST", info.latest), ("DELETE", info.deleted)) if holds and mark]
    return ("obj", str(info.size), moment, name, info.version or "", " ".join(marks))


def _by_folder(name: str) -> tuple[int, list[str]]:
    parts = name.split("/")
    return len(parts), parts[:-1]


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
