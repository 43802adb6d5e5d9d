"""Whether `xtrabackup-push` makes an increment, and on what (spec/mysql.md 6.3, and 14 #2, #11 and #24)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.backups import selection, sentinels
from walg_core.backups.catalog import NoBackups, list_backups
from walg_core.backups.sentinels import Backup
from walg_core.errors import ConfigError, UsageError
from walg_core.observe import log

from walg_mysql.sentinel import FORM, Sentinel

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.settings.config import Config
    from walg_core.storage.api import Storage

    from walg_mysql.server import Server

_RESTORE_MARKS = ("xtrabackup_info", "mariadb_backup_info", "xtrabackup_checkpoints", "mariadb_backup_checkpoints")
_UUID_LENGTH = 36


@dataclass(frozen=True, slots=True)
class Base:
    """What an increment builds on: its parent, the full backup of the chain, its place in it, and where it begins."""

    parent: str
    full: str
    count: int
    lsn: int


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server as sentinels describe it. `executed` is its executed GTID set as text."""

    hostname: str
    uuid: str
    version: str
    mariadb: bool
    executed: str = ""


def server_facts(server: Server) -> ServerFacts:
    """Raises EngineError."""
    return ServerFacts(
        os.uname().nodename, server.uuid(), server.version, server.is_mariadb, str(server.executed_gtids())
    )


def choose_base(
    context: Context, storage: Storage, server: Server, facts: ServerFacts, *, full: bool, name: str, user_data: str
) -> Base | None:
    """The base of an increment; None for a full backup, the reason logged. Raises NoBackups for one that was named."""
    if full:
        return None
    config = context.config
    origin = _origin(config)
    steps = config.get("WALG_DELTA_MAX_STEPS") or 0
    if steps <= 0:
        log.info("WALG_DELTA_MAX_STEPS is 0: making a full backup")
        return None
    selected = _selected(config, storage, name, user_data)
    if selected is None:
        log.info("there is no backup to build on: making a full backup")
        return None
    base = _on(storage, selected, origin)
    reason = _unfit(base, steps, facts, server) if base else "what it would build on is missing"
    if base is None or reason:
        log.info(f"no increment on {selected.name} ({reason}): making a full backup")
        return None
    held, sentinel, count = base
    assert sentinel.lsn is not None
    log.info(f"making increment {count} on {held.name} from LSN {sentinel.lsn}")
    return Base(held.name, held.base, count, sentinel.lsn)


def _origin(config: Config) -> str:
    origin: str = config.get("WALG_DELTA_ORIGIN") or "LATEST"
    if origin not in ("LATEST", "LATEST_FULL"):
        raise ConfigError(f"WALG_DELTA_ORIGIN is '{origin}': expected LATEST or LATEST_FULL")
    return origin


def _selected(config: Config, storage: Storage, name: str, user_data: str) -> Backup | None:
    if name and user_data:
        raise UsageError("only one delta target should be specified")
    if not name and not user_data:
        name = config.get("WALG_DELTA_FROM_NAME") or ""
        user_data = config.get("WALG_DELTA_FROM_USER_DATA") or ""
        if name and user_data:
            raise ConfigError("only one of WALG_DELTA_FROM_NAME and WALG_DELTA_FROM_USER_DATA should be set")
    if user_data:
        reader = selection.by_form(FORM)
        wanted = selection.parse_user_data(user_data, "the user data of the increment's base")
        _, entry = selection.find_by_user_data([storage], wanted, reader)
    elif name:
        _, entry = selection.find_by_name([storage], name)
    else:
        backups = list_backups(storage)
        if not backups:
            return None
        entry = backups[-1]
    return sentinels.load(storage, entry, FORM)


def _on(storage: Storage, selected: Backup, origin: str) -> tuple[Backup, Sentinel, int] | None:
    """The backup really built on, and the increment's number: with LATEST_FULL that is the full one, and always 1."""
    sentinel = Sentinel.of(selected.document)
    if origin == "LATEST_FULL" and sentinel.incremental:
        try:
            _, entry = selection.find_by_name([storage], selected.base)
        except NoBackups:
            return None
        selected = sentinels.load(storage, entry, FORM)
        sentinel = Sentinel.of(selected.document)
    return selected, sentinel, (sentinel.delta_count or 0) + 1


def _unfit(base: tuple[Backup, Sentinel, int], steps: int, facts: ServerFacts, server: Server) -> str:
    """Why no increment can be built on the base; "" when one can."""
    _, sentinel, count = base
    if count > steps:
        return f"{count} increments are more than WALG_DELTA_MAX_STEPS allows"
    if sentinel.lsn is None:
        return "it does not tell its LSN"
    if not sentinel.hostname or sentinel.hostname != facts.hostname:
        return f"it was made on the host '{sentinel.hostname}', this is '{facts.hostname}'"
    if not sentinel.server_version or sentinel.server_version != facts.version:
        return f"it is of version '{sentinel.server_version}', the server is '{facts.version}'"
    if facts.mariadb:
        return _unfit_mariadb(sentinel, server)
    damaged = len(facts.executed) >= _UUID_LENGTH and sentinel.server_uuid == facts.executed[:_UUID_LENGTH]
    if not sentinel.server_uuid or (sentinel.server_uuid != facts.uuid and not damaged):
        return f"it is of the server '{sentinel.server_uuid}', this is '{facts.uuid}'"
    return ""


def _unfit_mariadb(sentinel: Sentinel, server: Server) -> str:
    """MariaDB has no UUID that a restore would change: signs of one are looked for instead."""
    if sentinel.server_uuid:
        return "it is of a MySQL server, this one is MariaDB"
    rows = server.rows("SHOW GLOBAL STATUS LIKE 'Innodb_lsn_current'")
    current = int(rows[0][1]) if rows else None
    if current is not None and sentinel.lsn is not None and current < sentinel.lsn:
        return f"its LSN {sentinel.lsn} is ahead of the server's, {current}: another server, or one that was restored"
    directory = str(server.value("SELECT @@datadir"))
    for name in _RESTORE_MARKS:
        try:
            restored = os.stat(os.path.join(directory, name)).st_mtime_ns
        except OSError:
            continue
        if restored > sentinel.start_ns:
            return f"the server's data directory was restored after it: {name} in {directory} is newer"
    return ""
