"""Hard links that keep files as they are while they are packed (spec/redis.md 3.4 step 5 and 3.5)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from walg_core.errors import EngineError


class Pinned(NamedTuple):
    """A file held by `path`, its own link. `member` is its name in the tar, `size` that of the moment of pinning."""

    path: str
    member: str
    size: int
    mode: int


def pin(sources: Iterable[tuple[str, str]], folder: str, setting: str) -> list[Pinned]:
    """Link every `(path, relative name)` below `folder`; nothing stays linked when one fails. Raises EngineError."""
    pinned: list[Pinned] = []
    try:
        for source, relative in sources:
            pinned.append(_pin(source, relative, folder, setting))
    except BaseException:
        release(pinned)
        raise
    return pinned


def _pin(source: str, relative: str, folder: str, setting: str) -> Pinned:
    path = os.path.join(folder, relative)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        _clear_stale(source, path)
        os.link(source, path, follow_symlinks=False)
        found = os.stat(path)
    except OSError as error:
        hint = f"{setting} must be on the file system of what is pinned" if error.errno == 18 else None
        raise EngineError(f"{source} cannot be pinned at {path}: {error.strerror}", hint=hint) from error
    return Pinned(path, "/" + relative, found.st_size, found.st_mode & 0o7777)


def _clear_stale(source: str, path: str) -> None:
    """A link to the same file is left of a run that crashed; anything else of that name is not ours to remove."""
    try:
        if os.path.samestat(os.lstat(path), os.lstat(source)):
            os.unlink(path)
    except FileNotFoundError:
        return


def release(pinned: Iterable[Pinned]) -> None:
    """Remove the links; the data stays where it was."""
    for each in pinned:
        try:
            os.unlink(each.path)
        except FileNotFoundError:
            continue
