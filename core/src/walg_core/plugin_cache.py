"""The catalogue of plugins as a file in the user's cache directory, so that a cold command scans no entry points.

The file is for this user alone (directory 0700, file 0600) and is believed only when it belongs to this user, was made
by this very interpreter with the same search path, and none of the directories and files it was made from has changed.
Anything wrong with it only means that it is made again.
"""

import marshal
import os
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORM = 1


def directory() -> str:
    """`$XDG_CACHE_HOME/wal-g`, or `~/.cache/wal-g`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "wal-g")


def current_state(disabled: "frozenset[str]") -> "tuple[Any, ...]":
    """What the catalogue depends on besides its source files: interpreter, search path, installed distributions."""
    here = os.getcwd() if os.path.isdir(".") else ""
    paths = tuple(path for path in sys.path if path not in ("", here))
    return (_FORM, sys.version, sys.prefix, paths, tuple(_stamp(path) for path in paths), tuple(sorted(disabled)))


def _stamp(path: str) -> "tuple[int, int]":
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def _file(state: "tuple[Any, ...]") -> str:
    """One file for each interpreter, search path and block list."""
    lasting = repr((state[1], state[2], state[3], state[5])).encode()
    return os.path.join(directory(), f"plugins-{zlib.crc32(lasting):08x}.cache")


def read(state: "tuple[Any, ...]") -> "dict[str, Any] | None":
    """The cached catalogue (`Catalog.dump`), None when there is none that can be believed."""
    try:
        fd = os.open(_file(state), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return None
        body = os.read(fd, found.st_size)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(body) < 4 or zlib.crc32(body[4:]) != int.from_bytes(body[:4], "big"):
        return None
    try:
        made_for, sources, values = marshal.loads(body[4:])  # noqa: S302 - our own file: owner, mode, checksum checked
    except (ValueError, EOFError, TypeError):
        return None
    if made_for != state or any(_stamp(path) != stamp for path, stamp in sources):
        return None
    return values if isinstance(values, dict) else None


def write(state: "tuple[Any, ...]", values: "dict[str, Any]", sources: "tuple[str, ...]") -> None:
    """Replace the cached catalogue. A cache that cannot be written is no error: commands only start slower."""
    from walg_core.io.atomic import make_dirs, write_file

    body = marshal.dumps((state, tuple((path, _stamp(path)) for path in sources), values))
    try:
        make_dirs(directory(), 0o700)
        write_file(_file(state), zlib.crc32(body).to_bytes(4, "big") + body, mode=0o600)
    except OSError:
        return
