"""`backup-push` of a local data directory (spec/postgres-backup.md 4): data first, sentinel last."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from walg_core import hooks
from walg_core.backups import times
from walg_core.context import Context
from walg_core.errors import EngineError
from walg_core.events import BackupEvent
from walg_core.observe import log, progress
from walg_core.storage.api import Storage
from walg_core.storage.layers.limit import disk_bucket

from walg_pg import names
from walg_pg.backup import base, composers, finish, mode, parts, special
from walg_pg.backup.archive_wait import stop_archived
from walg_pg.backup.composers import Dealer, Group
from walg_pg.backup.contents import DataFiles
from walg_pg.backup.databases import EarlyCollection
from walg_pg.backup.options import PushOptions
from walg_pg.backup.packing import Packer
from walg_pg.backup.walk import EXCLUDED, Found, Walk
from walg_pg.lsn import format_lsn, segment_name
from walg_pg.sentinel import Sentinel
from walg_pg.server import Server

if TYPE_CHECKING:
    from walg_pg.backup.increments import Incrementer
    from walg_pg.backup.verification import Verification


class LocalPush:
    """One backup of the data directory of a running server on this host."""

    def __init__(self, context: Context, options: PushOptions) -> None:
        self.context = context
        self.options = options
        self.config = context.config
        self.segment_size: int = self.config.get("WALG_PG_WAL_SIZE") << 20
        self.started_ns = times.now()
        self.folder = names.BASEBACKUPS
        self.excluded = EXCLUDED
        self.abort = parts.Abort()
        self.threads: list[threading.Thread] = []
        self.verification: Verification | None = None

    def run(self) -> str:
        """Make the backup; returns its name. Raises WalgError; the server is out of backup mode then."""
        self.directory = checked_directory(self.options.directory or "")
        self.storage: Storage = self.context.write_storage(self.options.target_storage)
        with Server.connect() as server:
            self.server = server
            self.facts = mode.facts(server, self.segment_size)
            check_same_directory(self.directory, self.facts.data_directory)
            mode.claim(server, self.storage)
            event = BackupEvent(self.context.engine, "", self.storage.name)
            hooks.call(self.context.catalog, "walg_backup_starting", event=event)
            name = self._guarded()
        log.info(f"Wrote backup with name {name} to storage {self.storage.name}")
        event = BackupEvent(self.context.engine, name, self.storage.name)
        hooks.notify(self.context.catalog, "walg_backup_finished", event=event)
        return name

    def _guarded(self) -> str:
        """The backup, with everything undone when it fails: backup mode first, because it keeps WAL and a slot."""
        self.mode = mode.BackupMode(self.server)
        self.alive = mode.AliveCheck(self.server, self.config.get("WALG_ALIVE_CHECK_INTERVAL"))
        try:
            return self._make()
        except BaseException as error:
            self.abort.fail(error)
            self.alive.end()
            self.mode.abort(self.directory)
            parts.give_up(self.threads, self.abort)
            raise
        finally:
            self.alive.end()

    def _make(self) -> str:
        self.base = self._choose_base()
        log.info("Calling the start function")
        self.begun = self.mode.start(label())
        self.alive.start()
        segment = self.begun.segment or self._standby_segment()
        name = self._name(segment)
        log.info(f"Started backup with name {name} at LSN {format_lsn(self.begun.lsn)}")
        self.archiving = mode.check_archiving(self.server, self.facts.in_recovery)
        with finish.claim(self.storage, name, self.base, self.begun.lsn, self.folder):
            self._fill(name)
        return name

    def _fill(self, name: str) -> None:
        """Everything that is stored, under the backup's claim."""
        finish.prepare_place(self.storage, name, self.folder)
        names_of_databases = self._collect_names()
        self._pack(name)
        stopped = self._stop()
        if stopped.label is not None:
            special.store_label(self.uploader, stopped.label, stopped.tablespace_map or "")
        self._check_timeline()
        sentinel = self._sentinel(stopped)
        files = None
        if self.options.files_metadata:
            databases = names_of_databases.result() if names_of_databases else {}
            files = self.ledger.listed(databases)
        if self.options.permanent and self.base:
            base.make_chain_permanent(self.base)
        finish.check_parts(self.storage, name, self.uploader.stored, self.folder)
        finish.check_base(self.storage, self.base)
        finish.publish(self.storage, name, sentinel, files, self.folder)

    def _choose_base(self) -> base.Base | None:
        return base.choose(self.context, self.storage, self.options, self.facts)

    def _name(self, segment: str) -> str:
        """The backup's name; the base is checked against the position where the backup began."""
        if not self.base:
            return names.PREFIX + segment
        base.check_position(self.base, self.begun.lsn)
        return names.delta_name(segment, self.base.name)

    def _collect_names(self) -> EarlyCollection | None:
        if self.config.get("WALG_DISABLE_PARTIAL_RESTORE") or not self.options.files_metadata:
            return None
        return EarlyCollection()

    def _standby_segment(self) -> str:
        number = (self.begun.lsn - 1) // self.segment_size
        return segment_name(self.facts.timeline, number, self.segment_size)

    def _pack(self, name: str) -> None:
        """Walk, fill tars, store `pg_control` after everything else."""
        self.ledger = parts.Ledger(self.options.files_metadata)
        prefix = names.parts_prefix(name, self.folder)
        self.uploader = parts.Uploader(self.context, self.storage, prefix, self.ledger, self.abort)
        packer = self._packer()
        self.walk = Walk(self.directory, self.excluded)
        threshold = self.config.get("WALG_TAR_SIZE_THRESHOLD")
        groups = self._groups(threshold)
        with progress.track(None, "backup") as tracker:

            def make(take: Callable[[], Found | None]) -> parts.TarStream:
                return parts.TarStream(take, packer.pack, self.ledger, self.abort, threshold, tracker)

            dealer = Dealer(groups, make)
            self.threads = parts.fill(self.uploader, dealer.streams, self._workers())
            parts.wait(self.threads, self.abort, self.alive.check)
        special.store_control(self.uploader, packer, self.walk.control)
        if self.verification:
            self.verification.report()

    def _groups(self, threshold: int) -> Iterable[Group]:
        """The entries as the composer deals them out; all but the regular one look at every file first."""
        composer = self.options.composer
        if composer == "database":
            return composers.by_database(self.walk)
        if composer == "rating":
            headers, files = composers.apart(self.walk)
            composers.rate(files, self.base.files if self.base else {})
            return composers.by_rating(headers, files, threshold)
        if composer == "copy":
            copier = composers.Copier(self.storage, self.ledger, self.uploader)
            return [copier.reuse(self.walk, base.same_time)]
        return [self.walk]

    def _packer(self) -> Packer:
        files = self._data_files()
        self.verification = self._verification(files) if self.options.verify else None
        return Packer(files, self.base, self._incrementer(files) if self.base else None, self.verification)

    def _incrementer(self, files: DataFiles) -> Incrementer:
        from walg_pg.backup.changes import block_map
        from walg_pg.backup.increments import Incrementer

        assert self.base is not None
        blocks = block_map(self.context, self.storage, self.server, self.facts, self.base, self.begun.lsn)
        return Incrementer(files, self.config.get("WALG_PG_BLOCK_SIZE"), self.base.lsn, blocks)

    def _verification(self, files: DataFiles) -> Verification | None:
        from walg_pg.backup.verification import Verification

        if self.server.value("show data_checksums") == "on":
            page = self.config.get("WALG_PG_BLOCK_SIZE")
            return Verification(files, page, self.begun.lsn, self.options.store_all_corrupt)
        log.warning("the cluster has no data checksums: pages are not verified")
        return None

    def _workers(self) -> int:
        count: int = self.config.get("WALG_UPLOAD_DISK_CONCURRENCY")
        return 4 if self.context.turbo else count

    def _data_files(self) -> DataFiles:
        direct = self.config.get("WALG_DIRECT_IO_BLOCK_COUNT") if self.config.get("WALG_DIRECT_IO") else 0
        return DataFiles(disk_bucket(self.context), direct)

    def _stop(self) -> mode.Stopped:
        """Leave backup mode; on return all WAL that the backup needs is archived, where anything is archived."""
        self.compressed = self.ledger.compressed
        self.alive.check()
        stopped = stop_archived(
            self.mode,
            self.facts,
            self.begun.lsn,
            self.segment_size,
            timeout=self.config.get("WALG_STOP_BACKUP_TIMEOUT") or 0,
            archiving=self.archiving,
            watch=self.alive.check,
        )
        self.alive.end()
        return stopped

    def _check_timeline(self) -> None:
        """On a standby a promotion during the backup makes it worthless."""
        if not self.facts.in_recovery:
            return
        now = mode.timeline(self.server, self.segment_size)
        if now != self.facts.timeline:
            raise EngineError(
                f"the standby changed from timeline {self.facts.timeline} to {now} during the backup: promoted?",
                hint="run backup-push again",
            )

    def _sentinel(self, stopped: mode.Stopped) -> Sentinel:
        spec = None
        if self.walk.tablespaces:
            spec = tablespace_spec(self.directory, self.walk.tablespaces)
        built_on = self.base
        return Sentinel(
            start_lsn=self.begun.lsn,
            delta_lsn=built_on.lsn if built_on else None,
            delta_from=built_on.name if built_on else None,
            delta_full_name=built_on.full_name if built_on else None,
            delta_count=built_on.count if built_on else None,
            pg_version=self.facts.version,
            finish_lsn=stopped.lsn,
            system_identifier=self.facts.system_identifier,
            uncompressed_size=self.ledger.uncompressed,
            compressed_size=self.compressed,
            data_catalog_size=self.walk.catalog_size,
            spec=spec,
            user_data=self.options.user_data,
            files_metadata_disabled=not self.options.files_metadata,
            start_time=times.format_utc(self.started_ns, 6),
            finish_time=times.format_utc(times.now(), 6),
            hostname=socket.gethostname(),
            data_dir=self.facts.data_directory,
            is_permanent=self.options.permanent,
        )


def label() -> str:
    """The backup's label: the local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z")


def tablespace_spec(base: str, tablespaces: dict[str, str]) -> dict[str, object]:
    """`Spec` of the sentinel (spec 8.4): oid → location, for the cluster at `base`."""
    spec: dict[str, object] = {
        oid: {"loc": location, "link": f"pg_tblspc/{oid}"} for oid, location in tablespaces.items()
    }
    return {**spec, "base_prefix": base, "tablespaces": list(tablespaces)}


def checked_directory(text: str) -> str:
    """The data directory, absolute and resolved. Raises EngineError when it does not look like one."""
    directory = os.path.realpath(text)
    for inner in ("PG_VERSION", "global/pg_control"):
        try:
            with open(os.path.join(directory, inner), "rb"):
                pass
        except OSError as error:
            raise EngineError(
                f"{text} is not a readable data directory: {inner}: {error.strerror}",
                hint="give the server's data_directory, and run as the user that the server runs as",
            ) from error
    return directory


def check_same_directory(given: str, served: str) -> None:
    """Raises EngineError when the server runs on another directory than the one given."""
    if given != served:
        raise EngineError(
            f"the data directory {given} is not the server's, which is {served}",
            hint="give that one, or point PGHOST and PGPORT to the server that runs on the given one",
        )
