"""`backup-push` without a directory: the server sends its files itself (spec/postgres-backup.md 10)."""

from __future__ import annotations

import socket

from walg_core import hooks
from walg_core.backups import times
from walg_core.context import Context
from walg_core.errors import EngineError
from walg_core.events import BackupEvent
from walg_core.observe import log, progress
from walg_core.pipeline import tar

from walg_pg import names
from walg_pg.backup import finish, mode, parts, special
from walg_pg.backup.base_backup import BaseBackup, Position
from walg_pg.backup.options import PushOptions
from walg_pg.backup.push import tablespace_spec
from walg_pg.backup.repack import RemotePart, ServerTar
from walg_pg.lsn import format_lsn
from walg_pg.sentinel import Sentinel
from walg_pg.server import Server

_LEAST_RATE = 32


class RemotePush:
    """One full backup through BASE_BACKUP."""

    def __init__(self, context: Context, options: PushOptions) -> None:
        self.context = context
        self.options = options
        self.config = context.config
        self.segment_size: int = self.config.get("WALG_PG_WAL_SIZE") << 20
        self.started_ns = times.now()
        self.ledger = parts.Ledger(options.files_metadata)

    def run(self) -> str:
        """Make the backup; returns its name. Raises WalgError; nothing is listed then."""
        self.storage = self.context.write_storage(self.options.target_storage)
        with Server.connect() as server:
            self.facts = mode.facts(server, self.segment_size)
            mode.claim(server, self.storage)
            alive = mode.AliveCheck(server, self.config.get("WALG_ALIVE_CHECK_INTERVAL"))
            event = BackupEvent(self.context.engine, "", self.storage.name)
            hooks.call(self.context.catalog, "walg_backup_starting", event=event)
            alive.start()
            backup = BaseBackup(alive.check)
            try:
                name = self._make(backup)
            finally:
                alive.end()
                backup.close()
        log.info(f"Wrote backup with name {name} to storage {self.storage.name}")
        event = BackupEvent(self.context.engine, name, self.storage.name)
        hooks.notify(self.context.catalog, "walg_backup_finished", event=event)
        return name

    def _make(self, backup: BaseBackup) -> str:
        begun = backup.start(rate=self._rate(), verify=self.options.verify)
        name = names.full_name(begun.timeline, begun.lsn // self.segment_size, self.segment_size)
        log.info(f"Started backup with name {name} at LSN {format_lsn(begun.lsn)}")
        with finish.claim(self.storage, name, None, begun.lsn):
            self._fill(backup, name, begun)
        return name

    def _fill(self, backup: BaseBackup, name: str, begun: Position) -> None:
        """Everything that is stored, under the backup's claim."""
        finish.prepare_place(self.storage, name)
        prefix = names.parts_prefix(name)
        self.uploader = parts.Uploader(self.context, self.storage, prefix, self.ledger, parts.Abort())
        source = ServerTar(backup)
        control = None
        with progress.track(None, "backup") as tracker:
            for archive in backup.archives():
                source.begin()
                control = self._store(source, archive.oid, tracker) or control
        ended = backup.finish()
        if control is None:
            raise EngineError("the server's backup has no global/pg_control")
        entry, data = control
        self.ledger.number()
        self.uploader.store(special.CONTROL_PART, special.ReadyTar([("", tar.header(entry), data)]), [])
        sentinel = self._sentinel(begun, ended, source.raw, backup.tablespaces)
        files = self.ledger.listed({}) if self.options.files_metadata else None
        finish.check_parts(self.storage, name, self.uploader.stored)
        finish.publish(self.storage, name, sentinel, files)

    def _store(self, source: ServerTar, oid: str, tracker: progress.Tracker) -> tuple[tar.Entry, bytes] | None:
        """One archive as parts; its `pg_control`, if it has one."""
        control = None
        threshold = self.config.get("WALG_TAR_SIZE_THRESHOLD")
        exhausted = False
        while not exhausted:
            part = RemotePart(source, oid, self.ledger, threshold, tracker)
            if part.start():
                self.uploader.store(f"part_{self.ledger.number():03d}.tar", part, [])
            control = part.control or control
            exhausted = part.exhausted
        return control

    def _rate(self) -> int:
        """MAX_RATE in kB/s; 0 for none."""
        limit = 0 if self.context.turbo else self.config.get("WALG_DISK_RATE_LIMIT") or 0
        rate = int(limit) // 1024
        return rate if rate >= _LEAST_RATE else 0

    def _sentinel(self, begun: Position, ended: Position, raw: int, tablespaces: dict[str, str]) -> Sentinel:
        return Sentinel(
            start_lsn=begun.lsn,
            pg_version=self.facts.version,
            finish_lsn=ended.lsn,
            system_identifier=self.facts.system_identifier,
            uncompressed_size=raw,
            compressed_size=self.ledger.compressed,
            spec=tablespace_spec(self.facts.data_directory, tablespaces),
            user_data=self.options.user_data,
            files_metadata_disabled=not self.options.files_metadata,
            start_time=times.format_utc(self.started_ns, 6),
            finish_time=times.format_utc(times.now(), 6),
            hostname=socket.gethostname(),
            data_dir=self.facts.data_directory,
            is_permanent=self.options.permanent,
        )
