"""`backup-fetch`: through the restore command or in process, increments after their parents (spec/mysql.md 9)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core import hooks
from walg_core.backups import selection, sentinels
from walg_core.errors import ConfigError, EngineError
from walg_core.events import RestoreEvent
from walg_core.io.atomic import make_dirs
from walg_core.observe import log
from walg_core.observe.progress import TrackedReader, track
from walg_core.pipeline.reader import Reader
from walg_core.streams.channel import Ahead
from walg_core.streams.commands import command_text, feed_command
from walg_core.streams.engine import RESTORE
from walg_core.streams.fetch import open_stream

from walg_mysql.restore.chain import Link, chain
from walg_mysql.restore.commands import PREPARE, prepare_command, restore_command, run_prepare
from walg_mysql.sentinel import FORM, XTRABACKUP
from walg_mysql.xbstream.delta import extract_delta
from walg_mysql.xbstream.extract import extract

if TYPE_CHECKING:
    from walg_core.backups.sentinels import Backup
    from walg_core.context import Context
    from walg_core.settings.config import Config
    from walg_core.storage.api import Storage

_SERVER_FILES = ("ibdata1", "ib_logfile0", "#innodb_redo", "mysql.ibd")
_AHEAD = 8 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """How to restore. `inplace` applies increments' pages directly and means something only with `extract`."""

    extract: bool = False
    inplace: bool = False
    user_data: str = ""


def fetch_backup(context: Context, name: str, options: Options | None = None) -> str:
    """Restore a backup (`LATEST`, a name, or by user data) with all it builds on; returns its name.

    On failure the data directory is unusable and an error says so. Raises UsageError, NoBackups, ConfigError,
    IntegrityError, EngineError, CommandFailed, StorageError, OSError.
    """
    options = options or Options()
    storage, found = choose(context, name, options.user_data)
    restore(context, storage, found, options)
    log.info(f"Backup {found.name} restored")
    hooks.notify(
        context.catalog,
        "walg_restore_finished",
        event=RestoreEvent(context.engine, found.name, context.config.get("WALG_MYSQL_DATA_DIR") or ""),
    )
    return found.name


def choose(context: Context, name: str, user_data: str = "") -> tuple[Storage, Backup]:
    """The backup that is meant; without arguments by WALG_FETCH_TARGET_USER_DATA. Raises UsageError, NoBackups."""
    user_data = user_data or context.config.get("WALG_FETCH_TARGET_USER_DATA") or ""
    storage, entry = selection.select(context.read_storages(), name, user_data, selection.by_form(FORM))
    return storage, sentinels.load(storage, entry, FORM)


def restore(context: Context, storage: Storage, found: Backup, options: Options) -> None:
    """Restore `found`, a full backup or an increment with its parents, and prepare it."""
    links = chain(storage, found)
    tool = links[-1].sentinel.tool == XTRABACKUP
    if len(links) > 1 or tool:
        work = _Work(context, storage, options, len(links) > 1)
        for link in links:
            work.restore(link, last=link is links[-1])
        return
    _feed(context, storage, links[0], command_text(context.config, RESTORE), {})
    prepare = context.config.get(PREPARE)
    if prepare:
        run_prepare(prepare_command(prepare, "", last=True))


class _Work:
    """A physical backup's way into the data directory. Everything that can be checked is, before any download."""

    def __init__(self, context: Context, storage: Storage, options: Options, increments: bool) -> None:
        self.context = context
        self.storage = storage
        self.options = options
        config = context.config
        self.prepare = config.get(PREPARE) or ""
        if increments and not self.prepare:
            raise ConfigError(f"{PREPARE} is not set, and increments cannot be restored without it")
        self.command = "" if options.extract else command_text(config, RESTORE)
        self.directory = _data_directory(config) if options.extract else ""
        if self.directory:
            _refuse_used(self.directory)
        if increments and self.command:
            restore_command(self.command, "x")

    def restore(self, link: Link, *, last: bool) -> None:
        log.info(f"restoring {link.name}")
        if not link.sentinel.incremental:
            self._full(link)
            self._prepare("", last=last)
            return
        with _temporary(self.context.config) as directory:
            self._increment(link, directory)
            self._prepare(directory, last=last)

    def _full(self, link: Link) -> None:
        if self.directory:
            with track(link.sentinel.plain_size or None, "restore") as tracker:
                source = TrackedReader(_source(self.context, self.storage, link), tracker)
                count = extract(source, self.directory)
            log.info(f"{count} files extracted into {self.directory}")
        else:
            _feed(self.context, self.storage, link, self.command, {})

    def _increment(self, link: Link, directory: str) -> None:
        if self.directory and self.options.inplace:
            count = extract_delta(_source(self.context, self.storage, link), self.directory, directory)
            log.info(f"{count} tablespaces changed in place")
        elif self.directory:
            extract(_source(self.context, self.storage, link), directory)
        else:
            fitted = restore_command(self.command, directory)
            _feed(self.context, self.storage, link, fitted.text, fitted.environment)

    def _prepare(self, directory: str, *, last: bool) -> None:
        if self.prepare:
            run_prepare(prepare_command(self.prepare, directory, last=last))
        else:
            log.info(f"{PREPARE} is not set: the backup must be prepared before the server starts")


def _data_directory(config: Config) -> str:
    path: str = config.get("WALG_MYSQL_DATA_DIR") or ""
    if not path:
        raise ConfigError("WALG_MYSQL_DATA_DIR is not set: in-process extraction needs the directory to restore into")
    return os.path.abspath(path)


def _refuse_used(directory: str) -> None:
    """Old files among new ones make a server that starts and has neither's data."""
    for name in _SERVER_FILES:
        if os.path.lexists(os.path.join(directory, name)):
            raise EngineError(
                f"{directory} holds a server's data already ({name}); nothing was changed",
                hint="stop the server, move the old data away, and restore into the empty directory",
            )


@contextmanager
def _temporary(config: Config) -> Iterator[str]:
    place: str = config.get("WALG_MYSQL_INCREMENTAL_BACKUP_DST") or tempfile.gettempdir()
    make_dirs(place)
    with tempfile.TemporaryDirectory(prefix="wal-g", dir=place) as path:
        yield path


def _source(context: Context, storage: Storage, link: Link) -> Reader:
    """The backup's stream, decoded ahead of whoever reads it."""
    return Ahead(open_stream(context, storage, link.name, plain_size=link.sentinel.plain_size), _AHEAD)


def _feed(context: Context, storage: Storage, link: Link, text: str, environment: dict[str, str]) -> None:
    with track(link.sentinel.plain_size or None, "restore") as tracker:
        feed_command(text, TrackedReader(_source(context, storage, link), tracker), extra=environment)
