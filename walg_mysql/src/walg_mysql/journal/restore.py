"""`restore`: backup, start and replay up to a time or a transaction, in one command."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from walg_core.errors import CommandFailed, ConfigError, EngineError
from walg_core.observe import log
from walg_core.streams.commands import command_text

from walg_mysql.journal import plan as plans
from walg_mysql.journal.fetch import REPLAY, session
from walg_mysql.journal.gtid import GtidSet, MariadbGtidSet, MysqlGtidSet, contains
from walg_mysql.journal.ranges import SECOND
from walg_mysql.journal.transactions import Window
from walg_mysql.restore import fetch
from walg_mysql.server import Server

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage

START = "WALG_MYSQL_START_COMMAND"
DATA = "WALG_MYSQL_DATA_DIR"
_POSITIONS = ("xtrabackup_binlog_info", "mariadb_backup_binlog_info")
_PATIENCE = 300.0
_PAUSE = 0.5


def restore(context: Context, storage: Storage, plan: plans.Plan, options: fetch.Options) -> None:
    """Carry out a plan. Everything that can be checked is checked before the first byte is downloaded.

    Raises ConfigError, EngineError when the target is not archived or lies within the backup, CommandFailed.
    """
    plan.check()
    config = context.config
    replay, start, data = command_text(config, REPLAY), command_text(config, START), str(config.require(DATA))
    fetch.restore(context, storage, plan.backup, options)
    window = _window(plan, data)
    _start(start)
    _await_server(context, window)
    first = window.position[0] if window.position else ""
    names = [binlog.name for binlog in plan.binlogs]
    binlogs = plan.binlogs[names.index(first) :] if first in names else plan.binlogs
    session(context, storage, replay, iter(binlogs), window)
    if plan.target.gtid is not None and not window.reached:
        raise EngineError(f"the replay ended without transaction {plan.target.gtid}: the data are not at the target")
    log.info(f"Restored {plan.backup.name} and {window.taken} transactions after it: {plan.target}")


def _window(plan: plans.Plan, data: str) -> Window:
    """Where the restored data end, and the target. Raises EngineError for a target that they already hold."""
    after, position = recorded_position(data)
    target = plan.target
    if target.gtid is not None and after is not None and contains(after, target.gtid):
        raise EngineError(
            f"backup {plan.backup.name} holds transaction {target.gtid} already, and later ones perhaps",
            hint="choose an older backup by its name: `wal-g mysql restore NAME --target-gtid …`",
        )
    before = None if target.time_ns is None else target.time_ns / SECOND
    return Window(after=after, position=None if after else position, before=before, target=target.gtid)


def recorded_position(data: str) -> tuple[GtidSet | None, tuple[str, int] | None]:
    """What the backup tool noted in the data directory: executed GTIDs, and binlog and byte. Raises EngineError."""
    for name in _POSITIONS:
        path = os.path.join(data, name)
        try:
            with open(path, encoding="utf-8") as file:
                parts = file.read(1 << 24).strip().split("\t")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise EngineError(f"cannot read {path}: {error.strerror}") from error
        if len(parts) < 2 or not parts[1].isdecimal():
            raise EngineError(f"{path} does not tell a binlog and a position: {' '.join(parts)[:100]!r}")
        gtids = "".join(parts[2:]).replace("\n", "").strip()
        try:
            return (_parse(gtids) if gtids else None), (parts[0], int(parts[1]))
        except ValueError as error:
            raise EngineError(f"{path} holds no GTID set: {error}") from error
    return None, None


def _parse(text: str) -> GtidSet:
    return MysqlGtidSet.parse(text) if ":" in text else MariadbGtidSet.parse(text)


def _start(text: str) -> None:
    """In a session of its own: the server outlives this command. Its output goes where ours goes."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    log.info("starting the server")
    done = subprocess.run(
        [shell, "-c", text], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, check=False
    )
    if done.returncode:
        raise CommandFailed(
            f"the start command failed: exit status {done.returncode}",
            hint=f"run the command of {START} by hand; the restored data are complete and prepared",
        )


def _await_server(context: Context, window: Window) -> None:
    """Until it answers; a restore of a dump learns from the server where its data end."""
    if not context.config.is_set("WALG_MYSQL_DATASOURCE_NAME"):
        return
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            with Server.from_config(context.config) as server:
                if window.after is None and window.position is None:
                    window.after = server.executed_gtids() or None
            return
        except ConfigError:
            raise
        except EngineError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
