"""`binlog-push`: every complete binlog of the server, once, in order (spec/mysql.md 7.2; 14, rows 6, 9 and 10)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.errors import EngineError, IntegrityError
from walg_core.observe import log
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import Reader, read_exactly

from walg_mysql.journal import state
from walg_mysql.journal.archive import FOLDER, Binlog, list_binlogs, split_name
from walg_mysql.journal.dedupe import Archived, file_start
from walg_mysql.journal.events import ENCRYPTED_MAGIC, MAGIC
from walg_mysql.server import Server

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

_CHUNK = 1 << 20
_START = 1 << 16


@dataclass(frozen=True, slots=True)
class LocalBinlogs:
    """The server's binlogs in the order of its index; the last one is being written."""

    folder: str
    names: tuple[str, ...]
    mariadb: bool

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)


def local_binlogs(server: Server, *, flush: bool = False) -> LocalBinlogs:
    """From the index file that the server names. Raises ConfigError, EngineError."""
    if flush:
        server.rows("FLUSH BINARY LOGS")
    folder = os.path.dirname(server.binlog_basename())
    index = os.path.join(folder, server.binlog_index())
    try:
        with open(index, encoding="utf-8", errors="surrogateescape") as file:
            names = tuple(os.path.basename(line.strip()) for line in file if line.strip())
    except OSError as error:
        raise EngineError(
            f"cannot read the index of the binary logs: {error}",
            hint="binlog-push runs on the database's host, as a user who may read the server's binary logs",
        ) from error
    for name in names:
        split_name(name)
    return LocalBinlogs(folder, names, server.is_mariadb)


def push(context: Context, until: str = "") -> list[str]:
    """Archive what is complete and new, before `until` (exclusive); returns the names that were uploaded.

    Stops at the first failure: no binlog is stored before the one in front of it. Raises ConfigError, EngineError,
    StorageError, and IntegrityError where a binlog of that name but with other content is archived already.
    """
    config = context.config
    if until:
        split_name(until)
    storage = context.write_storage()
    with Server.from_config(config) as server:
        local = local_binlogs(server, flush=config.get("WALG_MYSQL_FLUSH_BINLOGS"))
    if not local.names:
        log.info("the server has no binary log")
        return []
    last = local.names[-1]
    if not until or split_name(until)[1] > split_name(last)[1]:
        until = last
    return _Push(context, storage, local, until).run()


class _Push:
    def __init__(self, context: Context, storage: Storage, local: LocalBinlogs, until: str) -> None:
        self.context = context
        self.storage = storage
        self.local = local
        self.until = split_name(until)[1]
        self.archived = {binlog.name: binlog for binlog in list_binlogs(storage)}
        self.check: Archived | None = None
        if context.config.get("WALG_MYSQL_CHECK_GTIDS"):
            self.check = Archived(state.read_archived(storage, mariadb=local.mariadb))
        self.overwrite = context.config.get("WALG_MYSQL_OVERWRITE_BINLOGS")
        self.cache = state.cache_path(context.config)
        self.uploaded: list[str] = []

    def run(self) -> list[str]:
        done = self._done()
        for position, name in enumerate(self.local.names):
            number = split_name(name)[1]
            if number >= self.until or number <= done:
                continue
            following = self.local.names[position + 1] if position + 1 < len(self.local.names) else ""
            self._one(name, following)
        if not self.uploaded:
            log.info("no new binlogs to archive")
        return self.uploaded

    def _done(self) -> int:
        """Number of the last binlog that needs no look, -1 for none: the cache's when the storage agrees with it."""
        cached = state.read_cache(self.cache)
        names = self.local.names
        if cached:
            prefix, number = split_name(cached)
            if prefix != split_name(names[0])[0] or split_name(names[-1])[1] < number:
                log.warning(f"binary logs were reset or renamed since {cached}: the cache of binlog-push is dropped")
            elif cached not in self.archived:
                # With the GTID check it may have been left out, another host's binlogs holding the same.
                say = log.debug if self.check else log.warning
                say(f"{cached}, the last binlog pushed from here, is not in this storage: looking at all")
            elif cached not in names or self._same(cached, _START):
                return number
            else:
                log.warning(f"{cached} is another file than the archived one of that name: looking at all")
        for name in reversed(names):
            if name in self.archived and split_name(name)[1] < self.until:
                if self._same(name):
                    state.write_cache(self.cache, name)
                    return split_name(name)[1]
                if not self.check and not self.overwrite:
                    raise self._other(name)
        return -1

    def _one(self, name: str, following: str) -> None:
        """Archive one binlog, or find that it is."""
        path = self.local.path(name)
        present = name in self.archived
        if present and self._same(name):
            if self.check:
                self.check.needs(file_start(path), file_start(self.local.path(following)))
                state.write_archived(self.storage, self.check.gtids)
        elif self.check and not self._needed(path, following):
            log.info(f"{name} holds only transactions that are archived already")
        elif present and not self.overwrite:
            raise self._other(name)
        else:
            self._upload(name, path)
        state.write_cache(self.cache, name)

    def _needed(self, path: str, following: str) -> bool:
        """After the first upload everything later goes too: a gap filled later would be replayed out of order."""
        assert self.check is not None
        needed = self.check.needs(file_start(path), file_start(self.local.path(following)) if following else None)
        return needed or bool(self.uploaded)

    def _upload(self, name: str, path: str) -> None:
        try:
            source: Reader = open(path, "rb", buffering=0)  # noqa: SIM115 - closed where it is stored
        except OSError as error:
            raise EngineError(f"cannot read the binlog {path}: {error.strerror}") from error
        try:
            magic = read_exactly(source, 4)
            if magic not in (MAGIC, ENCRYPTED_MAGIC):
                raise IntegrityError(f"{path} is not a binary log: it begins with {magic.hex() or 'nothing'}")
            if magic == ENCRYPTED_MAGIC:
                log.warning(f"{name} is encrypted by the server: its copy is readable only with the server's keys")
            os.lseek(source.fileno(), 0, os.SEEK_SET)  # type: ignore[attr-defined]
        except BaseException:
            source.close()
            raise
        stored = transfer.store(self.context, self.storage, FOLDER + name, source)
        log.info(f"{name} is archived: {stored.plain_size} bytes, {stored.stored_size} stored")
        self.uploaded.append(name)
        if self.check:
            state.write_archived(self.storage, self.check.gtids)

    def _other(self, name: str) -> IntegrityError:
        return IntegrityError(
            f"{name} is archived already, with other content than {self.local.path(name)}",
            hint="were the binary logs reset, or does another server use this archive with the same log_bin name? "
            "Archive to another prefix or rename log_bin; WALG_MYSQL_OVERWRITE_BINLOGS=true replaces the archived one",
        )

    def _same(self, name: str, limit: int = 1 << 62) -> bool:
        """Whether the local file and the archived one begin with the same `limit` bytes (and end together)."""
        binlog: Binlog = self.archived[name]
        source = binlog.open(self.context, self.storage)
        try:
            with open(self.local.path(name), "rb", buffering=0) as file:
                while limit > 0:
                    size = min(limit, _CHUNK)
                    mine, theirs = read_exactly(file, size), read_exactly(source, size)
                    if mine != theirs:
                        return False
                    if len(mine) < size:
                        return True
                    limit -= size
            return True
        except OSError as error:
            raise EngineError(f"cannot read the binlog {self.local.path(name)}: {error.strerror}") from error
        finally:
            source.close()
