"""`backup-push` and `xtrabackup-push` (spec/mysql.md 6)."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from walg_core.backups import journals, marking, times
from walg_core.errors import WalgError
from walg_core.observe import log
from walg_core.streams.commands import CommandReader, command_text
from walg_core.streams.engine import CREATE, Marks
from walg_core.streams.push import Pushed, backup_of, store_stream
from walg_core.streams.splitter import Split

from walg_mysql.backup.increment import Base, ServerFacts, choose_base, server_facts
from walg_mysql.backup.tool import (
    Checkpoints,
    architecture,
    check_increment,
    checkpoint_directory,
    is_xtrabackup,
    read_checkpoints,
    with_options,
)
from walg_mysql.journal.archive import FOLDER
from walg_mysql.journal.positions import binlog_start, newest_binlog
from walg_mysql.sentinel import FORM, UNSPECIFIED, XTRABACKUP, Sentinel
from walg_mysql.server import Server

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of a push. `full` off asks for an increment where one is possible."""

    marks: Marks
    count_journals: bool = False
    full: bool = True
    delta_from_name: str = ""
    delta_from_user_data: str = ""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known before the command starts."""

    text: str
    split: Split | None
    facts: ServerFacts
    binlog_start: str
    base: Base | None
    marks: Marks


def push(context: Context, options: Options) -> str:
    """Make one backup; returns its name. On any failure there is no sentinel and its data is removed again.

    Raises ConfigError, EngineError, CommandFailed, StorageError.
    """
    text = command_text(context.config, CREATE)
    split = Split.from_config(context.config)
    storage = context.write_storage()
    plan = _prepare(context, storage, text, split, options)
    made: list[Sentinel] = []
    with ExitStack() as cleanup:
        directory = cleanup.enter_context(checkpoint_directory()) if is_xtrabackup(text) else ""

        def body(target: Storage, folder: str) -> tuple[int, int]:
            return store_stream(context, target, folder, _source(plan, directory), split)

        def sentinel(pushed: Pushed) -> dict[str, Any]:
            made.append(_sentinel(storage, plan, pushed, directory))
            return made[0].values()

        base = plan.base.parent if plan.base else ""
        pushed = backup_of(context, body, sentinel, target=storage.name, base=base)
    log.info(f"Backup {pushed.name}: {pushed.plain_size} bytes read, {pushed.stored_size} stored")
    if options.count_journals and not options.marks.permanent:
        _account(storage, pushed.name, made[0].stop_ns)
    return pushed.name


def _prepare(context: Context, storage: Storage, text: str, split: Split | None, options: Options) -> _Plan:
    with Server.from_config(context.config) as server:
        facts = server_facts(server)
        start = binlog_start(context, storage, server)
        base = None
        if is_xtrabackup(text):
            base = choose_base(
                context,
                storage,
                server,
                facts,
                full=options.full,
                name=options.delta_from_name,
                user_data=options.delta_from_user_data,
            )
    return _Plan(text, split, facts, start, base, options.marks)


def _source(plan: _Plan, directory: str) -> CommandReader:
    if not directory:
        return CommandReader(plan.text)
    text, environment = with_options(plan.text, directory, plan.base.lsn if plan.base else None)
    return CommandReader(text, extra=environment)


def _sentinel(storage: Storage, plan: _Plan, pushed: Pushed, directory: str) -> Sentinel:
    """Everything of it is known once the data is stored. Raises EngineError when an increment is not one."""
    facts, marks, base = plan.facts, plan.marks, plan.base
    sentinel = Sentinel(
        tool=XTRABACKUP if directory else UNSPECIFIED,
        binlog_start=plan.binlog_start,
        binlog_end=newest_binlog(storage),
        start_ns=pushed.start_ns,
        stop_ns=times.now(),
        plain_size=pushed.plain_size,
        stored_size=pushed.stored_size,
        hostname=facts.hostname,
        server_uuid=facts.uuid,
        server_version=facts.version,
        permanent=marks.permanent,
        user_data=marks.user_data,
        delta_count=0,
    )
    if not directory:
        return sentinel
    found = read_checkpoints(directory, plan.text)
    sentinel = replace(
        sentinel,
        server_arch=architecture(),
        server_os=os.uname().sysname.lower(),
        lsn=found.to_lsn,
        delta_lsn=found.from_lsn,
    )
    return _increment(storage, sentinel, base, found) if base else sentinel


def _increment(storage: Storage, sentinel: Sentinel, base: Base, found: Checkpoints) -> Sentinel:
    check_increment(found, base.lsn)
    if sentinel.permanent:
        # What a permanent increment needs must stay as long as it does.
        marking.mark(storage, base.parent, FORM, permanent=True)
    return replace(
        sentinel, incremental=True, delta_from=base.parent, delta_full_name=base.full, delta_count=base.count
    )


def _account(storage: Storage, name: str, stop_ns: int) -> None:
    """The backup is made whatever comes of its journal."""
    try:
        journals.add(storage, name, stop_ns, FOLDER)
    except WalgError as error:
        log.warning(f"the sizes of the binlogs between backups are not accounted for: {error}")
