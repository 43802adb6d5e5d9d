"""What SFTP needs several requests for: folders made on demand, durable entries, names of one folder."""

import asyncio
import posixpath
import stat as modes
from collections.abc import Iterable

import asyncssh
from walg_core.errors import PermanentError

from walg_storage_ssh.failures import ABSENT, LOST
from walg_storage_ssh.transfer import close_quietly

_TOGETHER = 64
"""Requests under way at once where many small ones are to be made."""


async def is_dir(client: asyncssh.SFTPClient, path: str) -> bool:
    """Whether `path` is a directory (or a link to one)."""
    try:
        return modes.S_ISDIR((await client.stat(path)).permissions or 0)
    except ABSENT:
        return False


async def make(client: asyncssh.SFTPClient, path: str) -> None:
    """Make a directory and its missing parents; each new entry is made durable where the server lets us.

    Raises PermanentError when a part of the path is a file.
    """
    try:
        try:
            await client.mkdir(path)
        except ABSENT:
            parent = posixpath.dirname(path)
            if parent == path:
                raise
            await make(client, parent)
            await client.mkdir(path)
    except asyncssh.SFTPPermissionDenied:
        if not await is_dir(client, path):
            raise
        return
    except asyncssh.SFTPError as error:
        if isinstance(error, LOST):
            raise
        if not await is_dir(client, path):
            raise PermanentError(f"a part of the path {path} is an object, not a folder") from error
        return
    await sync(client, posixpath.dirname(path))


async def sync(client: asyncssh.SFTPClient, path: str) -> None:
    """Make the entries of a directory durable, as far as the server has the notion."""
    try:
        file = await client.open(path, asyncssh.FXF_READ, encoding=None)
    except asyncssh.SFTPError as error:
        if isinstance(error, LOST):
            raise
        return
    try:
        await file.fsync()
    except asyncssh.SFTPError as error:
        if isinstance(error, LOST):
            raise
    finally:
        await close_quietly(file)


async def remove_empty(client: asyncssh.SFTPClient, path: str, root: str) -> str:
    """Remove `path` and its parents below `root` while they are empty; the first that stays."""
    while path.startswith(root + "/"):
        try:
            await client.rmdir(path)
        except ABSENT:
            path = posixpath.dirname(path)
            continue
        except asyncssh.SFTPError as error:
            if isinstance(error, LOST):
                raise
            return path
        path = posixpath.dirname(path)
    return path


async def entries(client: asyncssh.SFTPClient, path: str) -> list[tuple[str, asyncssh.SFTPAttrs]]:
    """Names and attributes (of what links lead to) in a directory; none when it is missing or no directory."""
    found: list[tuple[str, asyncssh.SFTPAttrs]] = []
    links: list[str] = []
    try:
        async for entry in client.scandir(path or "/"):
            name = str(entry.filename)
            if name in (".", ".."):
                continue
            if modes.S_ISLNK(entry.attrs.permissions or 0):
                links.append(name)
            else:
                found.append((name, entry.attrs))
    except ABSENT:
        return []
    except asyncssh.SFTPError as error:
        if isinstance(error, (*LOST, asyncssh.SFTPPermissionDenied)) or await is_dir(client, path):
            raise
        return []
    for name in links:
        try:
            found.append((name, await client.stat(f"{path}/{name}")))
        except ABSENT:
            continue
    return found


async def unlink(client: asyncssh.SFTPClient, paths: Iterable[str]) -> None:
    """Remove files, many requests at once. Missing ones and directories are left out."""
    under_way: set[asyncio.Task[None]] = set()
    try:
        for path in paths:
            if len(under_way) >= _TOGETHER:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            under_way.add(asyncio.create_task(_unlink(client, path)))
        for task in under_way:
            await task
    except BaseException:
        await asyncio.gather(*under_way, return_exceptions=True)
        raise


async def _unlink(client: asyncssh.SFTPClient, path: str) -> None:
    try:
        await client.remove(path)
    except ABSENT:
        return
    except asyncssh.SFTPError as error:
        if isinstance(error, LOST) or not await _is_no_file(client, path):
            raise


async def _is_no_file(client: asyncssh.SFTPClient, path: str) -> bool:
    """Whether `path` is a directory, or below something that is a file."""
    try:
        return modes.S_ISDIR((await client.lstat(path)).permissions or 0)
    except ABSENT:
        return True
    except asyncssh.SFTPPermissionDenied:
        return False
    except asyncssh.SFTPFailure:
        parent = posixpath.dirname(path)
        return not await is_dir(client, parent)
