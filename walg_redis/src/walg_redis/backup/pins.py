"""Hard links that keep files as they are while they are packed (spec/redis.md 3.4 step 5 and 3.5).

A backup that is killed leaves its links, and with them the space of files that the server has long replaced. Whoever
pins holds a lock on the directory of its links, so the next backup knows links that nobody holds, and frees them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from walg_core.errors import EngineError
from walg_core.io.atomic import make_dirs
from walg_core.io.locks import FileLock
from walg_core.observe import log


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


@contextmanager
def held(folder: str, setting: str, is_ours: Callable[[str], bool]) -> Iterator[None]:
    """Have the directory `folder` for our links alone; files in it that `is_ours` knows by name are removed before.

    Raises EngineError while another backup has it.
    """
    make_dirs(folder, 0o755)
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(folder, wait=False))
        except BlockingIOError as error:
            raise EngineError(
                f"another backup has its links in {folder}", hint=f"wait for it, or set {setting} to another directory"
            ) from error
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if is_ours(name) and os.path.isfile(path):
                log.info(f"removing {path}, left by a backup that was killed")
                os.unlink(path)
        yield


@contextmanager
def held_new(base: str, prefix: str) -> Iterator[str]:
    """A new directory for links below `base`, gone afterwards; those of backups that were killed go as well."""
    make_dirs(base, 0o700)
    for name in sorted(os.listdir(base)):
        path = os.path.join(base, name)
        if name.startswith(prefix) and os.path.isdir(path):
            _remove_left(path)
    folder = tempfile.mkdtemp(prefix=prefix, dir=base)
    try:
        with FileLock(folder, wait=False):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(path: str) -> None:
    try:
        with FileLock(path, wait=False):
            log.info(f"removing {path}, left by a backup that was killed")
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        # It is another backup's at work, or just gone.
        return
