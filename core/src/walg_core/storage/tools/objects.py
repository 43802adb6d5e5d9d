"""Single objects and prefixes: find, remove, check (spec/storages.md 1 "prefix list", 6)."""

import os
from collections.abc import Iterable, Iterator

from walg_core.errors import PermanentError, StorageError
from walg_core.storage.api import ObjectInfo, Storage


def below(storage: Storage, prefix: str, *, versions: bool = False) -> Iterator[ObjectInfo]:
    """The object called `prefix`, or else everything in the folder of that name; not a match of strings."""
    name = prefix.strip("/")
    folder = name.rpartition("/")[0]
    folder = folder + "/" if folder else ""
    if name and not prefix.endswith("/"):
        if versions:
            same = [info for info in storage.list_versions(folder) if info.key == name]
        else:
            same = [info for info in storage.list_dir(folder) if info.key == name]
        if same:
            yield from same
            return
    inside = name + "/" if name else ""
    yield from storage.list_versions(inside) if versions else storage.list(inside)


def remove(storage: Storage, prefix: str, *, all_versions: bool = False) -> int:
    """Delete what `below` finds; returns how many. Raises PermanentError when there is nothing."""
    found = list(below(storage, prefix, versions=all_versions))
    if not found:
        raise PermanentError(f'object or folder "{prefix}" does not exist')
    if all_versions:
        storage.delete_versions(found)
    else:
        storage.delete([info.key for info in found])
    return len(found)


def remove_version(storage: Storage, key: str, version: str) -> None:
    """Delete exactly one version, without looking whether it is there."""
    storage.delete_versions([ObjectInfo(key, 0, 0.0, version)])


def check_read(storage: Storage, names: Iterable[str]) -> None:
    """List the root and look for each name. Raises PermanentError naming the missing ones.

    Where folders exist by themselves (file systems), a folder's name, and "" for the root, is there as well.
    """
    next(iter(storage.list_dir()), None)
    missing = [name for name in names if not (_is_folder(storage, name) or storage.exists(name))]
    if missing:
        raise PermanentError(f"files are missing: {', '.join(missing)}")


def _is_folder(storage: Storage, name: str) -> bool:
    if not storage.file_system:
        return False
    parent = name.rpartition("/")[0]
    return not name or f"{name}/" in storage.list_dirs(f"{parent}/" if parent else "")


def check_write(storage: Storage) -> None:
    """Write an object of a random name, read it back, delete it."""
    name = os.urandom(16).hex()
    while storage.exists(name):
        name = os.urandom(16).hex()
    storage.put_bytes(name, b"test")
    try:
        if storage.get(name, 1024) != b"test":
            raise StorageError(f"write check: '{name}' does not come back as it was written", key=name)
    finally:
        storage.delete([name])
