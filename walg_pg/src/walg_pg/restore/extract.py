"""One part into the destination: how each kind of member is treated, what is checked (spec/postgres-backup.md 11.3)."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from walg_core.errors import IntegrityError, Interrupted, NoSpace
from walg_core.io.destination import Destination, components, show, write_all
from walg_core.observe import log
from walg_core.pipeline import untar
from walg_core.pipeline.reader import CHUNK

from walg_pg.restore import increments
from walg_pg.restore.chain import PG_CONTROL, Link, bare
from walg_pg.restore.source import Download, ReadAhead, open_part
from walg_pg.restore.stamps import rounded_seconds

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.observe.progress import Tracker
    from walg_core.pipeline.untar import Archive, Member
    from walg_core.storage.api import ObjectInfo

    from walg_pg.sentinel import FileEntry

_CONTROL_LIMIT = 1 << 16
_SLACK = 64 << 20


class Progress:
    """Shared by the workers of a restore: bytes so far, cancellation, what was left out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bytes = 0
        self.files = 0
        self.reopened = 0
        self.skipped: set[str] = set()
        self.cancelled = threading.Event()
        self.tracker: Tracker | None = None

    def add(self, count: int, files: int = 0) -> None:
        with self._lock:
            self.bytes += count
            self.files += files
        if self.tracker is not None:
            self.tracker.advance(count)


class Extractor:
    """Extracts parts of one backup of the chain. Thread-safe: every call of `part` has its own stream.

    `tablespace_links` False leaves out the links of remote backups' archives, which are made apart.
    `control` receives `global/pg_control` instead of the destination: it is written last of all.
    """

    def __init__(
        self,
        context: Context,
        root: Destination,
        link: Link,
        progress: Progress,
        *,
        page_size: int,
        retries: int,
        drop: frozenset[str] = frozenset(),
    ) -> None:
        self._context = context
        self._root = root
        self._link = link
        self._progress = progress
        self._page_size = page_size
        self._retries = retries
        self._drop = drop
        self._allowance = _allowance(link)
        self._lock = threading.Lock()
        self.control: bytes | None = None
        self.root_mode_seen = False
        self.ahead = False
        """Whether parts are decompressed in threads of their own: when there are fewer parts than processors."""

    def part(self, info: ObjectInfo) -> None:
        """Extract one object. Raises IntegrityError, StorageError, NoSpace, OSError, Interrupted when cancelled."""
        download = Download(
            self._link.backup.storage, info, retries=self._retries, stopped=self._progress.cancelled.is_set
        )
        reader = open_part(self._context, download, info.key)
        if self.ahead and info.size > CHUNK:
            reader = ReadAhead(reader)
        try:
            archive = untar.Archive(reader, info.key)
            seen = set()
            for member in archive:
                name = os.fsdecode(member.name)
                seen.add(name)
                self._member(archive, member, name, info.key)
            self._check_members(seen, info.key)
        except IntegrityError as error:
            if info.key not in str(error):
                raise IntegrityError(f"{info.key}: {error}", hint=error.hint) from error
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(
                    f"{os.strerror(error.errno)} while restoring {error.filename or self._root.path}",
                    hint="free space and repeat the command: it goes on where it stopped",
                ) from error
            raise
        finally:
            reader.close()
            self._progress.reopened += download.reopened

    def _check_members(self, seen: set[str], key: str) -> None:
        """The part has what the file list says of it: not another backup's part, not a shorter one."""
        files = self._link.files
        if files is None:
            return
        expected = files.tar_sets.get(key.rpartition("/")[2])
        if expected is None:
            return
        wanted = set(expected)
        foreign = sorted(seen - wanted)
        # Files that vanished during the backup stay in the tar's list but not in the list of files.
        lost = sorted(name for name in wanted - seen if name in files.files and not files.files[name].skipped)
        if foreign or lost:
            what = f"has {foreign[0]}, which is not of it" if foreign else f"lacks {lost[0]}"
            raise IntegrityError(
                f"{key} {what} ({len(foreign)} members too many, {len(lost)} missing): the part is damaged or swapped"
            )

    def _member(self, archive: Archive, member: Member, name: str, key: str) -> None:
        if self._progress.cancelled.is_set():
            raise Interrupted("the restore was cancelled")
        parts = components(member.name)
        if member.kind == untar.DIRECTORY:
            self._directory(parts, member)
        elif member.kind == untar.FILE:
            self._file(archive, member, name, parts)
        elif self._link.newest:
            self._odd(member, name, key)

    def _directory(self, parts: tuple[bytes, ...], member: Member) -> None:
        # Every delta stores all directories again, so those of its bases say nothing new.
        if self._link.newest:
            if not parts:
                self.root_mode_seen = True
            self._root.make_dir(parts, member.mode)

    def _odd(self, member: Member, name: str, key: str) -> None:
        self._progress.skipped.add(name)
        if bare(name).startswith("pg_tblspc/"):
            return
        if member.kind == untar.HARDLINK:
            raise IntegrityError(f"{key}: {name} is a hard link, which no backup of a cluster has")
        target = f" to {os.fsdecode(member.link)!r}" if member.kind == untar.SYMLINK else ""
        log.warning(f"{name} was a {member.kind}{target}: not restored, make it again if the server needs it")

    def _file(self, archive: Archive, member: Member, name: str, parts: tuple[bytes, ...]) -> None:
        plain = bare(name)
        entry = self._link.files.files.get(name) if self._link.files else None
        if entry is not None and entry.mtime and abs(rounded_seconds(entry.mtime) - member.mtime) > 1:
            raise IntegrityError(
                f"{name} was modified at another time than the file list of {self._link.name} says: "
                "the part belongs to another backup"
            )
        self._charge(member)
        if plain == PG_CONTROL:
            if self._link.newest and self._wants(name, plain):
                self.control = self._small(archive, member, name)
            return
        if plain in self._drop or not self._wants(name, plain):
            return
        if self._is_increment(entry):
            self._increment(archive, name, parts)
        else:
            self._whole(archive, member, parts)
        self._progress.add(0, 1)

    def _wants(self, name: str, plain: str) -> bool:
        wanted = self._link.wanted
        return wanted is None or name in wanted or plain in wanted

    def _charge(self, member: Member) -> None:
        """Refuse an archive that holds far more than the backup's metadata says."""
        with self._lock:
            if self._allowance is None:
                return
            self._allowance -= member.size
            if self._allowance < 0:
                raise IntegrityError(
                    f"backup {self._link.name} holds more data than its sentinel says: it is damaged or forged"
                )

    def _small(self, archive: Archive, member: Member, name: str) -> bytes:
        if member.size > _CONTROL_LIMIT:
            raise IntegrityError(f"{name} of {member.size} bytes is no control file")
        return archive.read_exactly(member.size)

    def _whole(self, archive: Archive, member: Member, parts: tuple[bytes, ...]) -> None:
        fd = self._root.create(parts, member.mode)
        try:
            path = show(parts)
            while piece := archive.read():
                write_all(fd, piece, path)
                self._progress.add(len(piece))
                if self._progress.cancelled.is_set():
                    raise Interrupted("the restore was cancelled")
        finally:
            self._root.close_file(fd)

    def _is_increment(self, entry: FileEntry | None) -> bool:
        return entry is not None and entry.incremented and self._link.sentinel.is_delta

    def _open_base(self, name: str, parts: tuple[bytes, ...]) -> int:
        try:
            return self._root.open_file(parts)
        except FileNotFoundError:
            raise IntegrityError(
                f"{name}: the increment in {self._link.name} has no base: no earlier backup of the chain brought it"
            ) from None

    def _increment(self, archive: Archive, name: str, parts: tuple[bytes, ...]) -> None:
        limit = self._link.sentinel.data_catalog_size or 1 << 50
        size = archive.left
        header = increments.read_header(archive, name, self._page_size, limit)
        fd = self._open_base(name, parts)
        try:
            increments.apply(archive, header, fd, name)
        finally:
            self._root.close_file(fd)
        self._progress.add(size)


def _allowance(link: Link) -> int | None:
    """The most bytes of members that this backup can hold; None when its sentinel does not tell."""
    sentinel = link.sentinel
    known = max(sentinel.uncompressed_size, sentinel.data_catalog_size)
    return 2 * known + _SLACK if known > 0 else None
