"""The walk over a data directory: what belongs to a backup, in which order, under which name (spec 4.1, 5).

Every decision looks at path components relative to the data directory, never at the path of that directory itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from walg_core.errors import EngineError
from walg_core.observe import log
from walg_core.pipeline import tar

from walg_pg.backup.owners import Owners

EXCLUDED = frozenset(
    (
        "log",
        "pg_log",
        "pg_xlog",
        "pg_wal",
        "pgsql_tmp",
        "postgresql.auto.conf.tmp",
        "postmaster.pid",
        "postmaster.opts",
        "recovery.conf",
        "pg_dynshmem",
        "pg_notify",
        "pg_replslot",
        "pg_serial",
        "pg_stat_tmp",
        "pg_snapshots",
        "pg_subtrans",
        "standby.signal",
    )
)
"""Base names, at any depth, that stay out; of directories the header is kept."""
CATCHUP_EXCLUDED = EXCLUDED | {"pg_hba.conf", "postgresql.conf", "postgresql.auto.conf"}
DEFAULT_TABLESPACE = 1663

_TYPES = (
    (stat.S_ISREG, tar.FILE),
    (stat.S_ISDIR, tar.DIRECTORY),
    (stat.S_ISLNK, tar.SYMLINK),
    (stat.S_ISFIFO, tar.FIFO),
    (stat.S_ISCHR, tar.CHARACTER),
    (stat.S_ISBLK, tar.DEVICE),
)


class Relation(NamedTuple):
    """A relation's main fork: oids of tablespace and database, and the relfilenode."""

    tablespace: int
    database: int
    node: int


class Status(NamedTuple):
    """What a backup needs of a file's status."""

    st_mode: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_size: int
    st_mtime_ns: int


class Found(NamedTuple):
    """Something that gets a tar entry. `name` is the tar name (leading slash), `path` where to read it.

    `updates` is what the rating composer says of the file's relation: how many tuples changed.
    """

    name: str
    path: str
    stat: os.stat_result | Status
    type: bytes
    link: str = ""
    updates: int = 0

    @property
    def relation(self) -> Relation | None:
        """Of segment files of a main fork (`base/5/16384.1`), whatever their size; None for all others."""
        return relation_of(self.name)[0] if self.is_file else None

    @property
    def segment(self) -> int:
        """The number of the segment file, 0 for all that is none."""
        return relation_of(self.name)[1] if self.is_file else 0

    @property
    def is_file(self) -> bool:
        """Whether it carries data."""
        return self.type == tar.FILE

    @property
    def mtime(self) -> int:
        """Modification time in nanoseconds."""
        return self.stat.st_mtime_ns


def relation_of(name: str) -> tuple[Relation | None, int]:
    """The relation and segment number that a tar name stands for: `/base/<db>/<rel>[.n]` or a tablespace's."""
    parts = name.strip("/").split("/")
    if parts[0] == "base" and len(parts) == 3:
        tablespace, database = str(DEFAULT_TABLESPACE), parts[1]
    elif parts[0] == "pg_tblspc" and len(parts) == 5:
        tablespace, database = parts[1], parts[3]
    else:
        return None, 0
    node, dot, segment = parts[-1].partition(".")
    if not (_digits(node) and _digits(tablespace) and _digits(database)) or (dot and not _digits(segment)):
        return None, 0
    return Relation(int(tablespace), int(database), int(node)), int(segment) if dot else 0


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


class Walk:
    """One pass over `root` (absolute, resolved). Iterating gives `Found` in the order of the original.

    A tablespace whose location lies inside the data directory is visited as a tablespace only; of the location just
    the directory itself is given, as the server's own base backup has it.

    `inside`: the tar names of such locations. After the iteration: `tablespaces` (oid → raw link target without
    trailing slash), `catalog_size` (bytes of all visited entries), `control` (the withheld `global/pg_control`).
    """

    def __init__(self, root: str, excluded: frozenset[str] = EXCLUDED) -> None:
        self.root = root
        self.excluded = excluded
        self.tablespaces: dict[str, str] = {}
        self.catalog_size = 0
        self.control: Found | None = None
        self.inside = _locations_inside(root)

    def __iter__(self) -> Iterator[Found]:
        status = os.lstat(self.root)
        self.catalog_size += status.st_size
        yield Found("/", self.root, status, tar.DIRECTORY)
        yield from self._directory(self.root, "")

    def _directory(self, path: str, name: str) -> Iterator[Found]:
        """Everything below; `name` is the tar name of the directory itself ("" for the root)."""
        bases = self._entries(path)
        bases.reverse()
        while bases:
            # Given up one by one: of a directory with a million files the names are the most that is in memory.
            base = bases.pop()
            inner, inner_name = f"{path}/{base}", f"{name}/{base}"
            status = self._lstat(inner)
            if status is not None:
                yield from self._visit(base, inner, inner_name, status)

    def _visit(self, base: str, path: str, name: str, status: os.stat_result) -> Iterator[Found]:
        self.catalog_size += status.st_size
        is_directory = stat.S_ISDIR(status.st_mode)
        if base in self.excluded:
            if is_directory:
                yield Found(name, path, status, tar.DIRECTORY)
            elif stat.S_ISLNK(status.st_mode) and base in ("pg_wal", "pg_xlog"):
                # The original drops the link, and the restored cluster does not start without the directory.
                yield Found(name, path, _linked_directory(path, status), tar.DIRECTORY)
        elif is_directory and name == "/pg_tblspc":
            yield from self._tablespaces(path, name, status)
        elif is_directory:
            yield Found(name, path, status, tar.DIRECTORY)
            if name not in self.inside:
                yield from self._directory(path, name)
        else:
            yield from self._other(base, path, name, status)

    def _other(self, base: str, path: str, name: str, status: os.stat_result) -> Iterator[Found]:
        kind = next((kind for test, kind in _TYPES if test(status.st_mode)), None)
        if kind is None:
            log.warning(f"{path} is neither a file, a directory nor a link (a socket?); it is left out of the backup")
        elif kind == tar.FILE and base == "pg_control":
            self.control = Found(name, path, status, kind)
        elif kind == tar.FILE:
            yield Found(name, path, status, kind)
        elif kind == tar.SYMLINK:
            yield Found(name, path, status, kind, self._target(path))
        else:
            yield Found(name, path, status, kind)

    def _tablespaces(self, path: str, name: str, status: os.stat_result) -> Iterator[Found]:
        """The trees behind the links first, then the directory and what is really in it."""
        real: list[tuple[str, str, str, os.stat_result]] = []
        for base in self._entries(path):
            inner = f"{path}/{base}"
            entry = self._lstat(inner)
            if entry is None:
                continue
            if not stat.S_ISLNK(entry.st_mode):
                real.append((base, inner, f"{name}/{base}", entry))
                continue
            target = self._target(inner)
            place = self._lstat(os.path.join(path, target))
            if not target or place is None:
                continue
            self.catalog_size += entry.st_size + place.st_size
            self.tablespaces[base] = target
            yield from self._directory(os.path.join(path, target), f"{name}/{base}")
        yield Found(name, path, status, tar.DIRECTORY)
        for each in real:
            yield from self._visit(*each)

    def _entries(self, path: str) -> list[str]:
        try:
            bases = os.listdir(path)
        except FileNotFoundError:
            log.warning(f"{path} disappeared during the walk")
            return []
        except OSError as error:
            raise _unreadable(path, error) from error
        # Text of ASCII characters alone is in the order of its bytes.
        bases.sort(key=None if all(map(str.isascii, bases)) else os.fsencode)
        return bases

    def _lstat(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(path)
        except FileNotFoundError:
            log.warning(f"{path} disappeared during the walk")
            return None
        except OSError as error:
            raise _unreadable(path, error) from error

    def _target(self, path: str) -> str:
        """A link's raw target without trailing slashes; "" when it has vanished."""
        try:
            return os.readlink(path).rstrip("/")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise _unreadable(path, error) from error


def _locations_inside(root: str) -> frozenset[str]:
    """The tar names of the tablespaces' locations that lie below `root` (resolved)."""
    found = set()
    try:
        with os.scandir(f"{root}/pg_tblspc") as entries:
            links = [entry.path for entry in entries if entry.is_symlink()]
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise _unreadable(f"{root}/pg_tblspc", error) from error
    for link in links:
        place = os.path.realpath(link)
        if place.startswith(f"{root}/"):
            found.add(place[len(root) :])
    return frozenset(found)


def _linked_directory(path: str, status: os.stat_result) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError:
        return status


def _unreadable(path: str, error: OSError) -> EngineError:
    return EngineError(
        f"cannot read {path}: {error.strerror}",
        hint="run the backup as the user that the server runs as, or as one who may read its data directory",
    )


class Headers:
    """Makes tar headers of found entries; owner names are looked up once per number."""

    def __init__(self) -> None:
        self._owners = Owners()

    def make(self, found: Found, size: int) -> bytes:
        """The header for `found` carrying `size` bytes of data."""
        status = found.stat
        device = status.st_rdev if found.type in (tar.CHARACTER, tar.DEVICE) else 0
        return tar.header(
            tar.Entry(
                os.fsencode(found.name),
                size,
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                self._owners.user(status.st_uid),
                self._owners.group(status.st_gid),
                tar.rounded(status.st_mtime_ns),
                found.type,
                os.fsencode(found.link),
                os.major(device),
                os.minor(device),
            )
        )
