"""From the options of `backup-fetch` to a restore."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from walg_core.errors import UsageError
from walg_core.observe import log

from walg_pg.catalog.backups import LATEST, find_backup, find_by_user_data
from walg_pg.restore.fetch import Plan, Request, Restore, plan
from walg_pg.restore.partial import selector
from walg_pg.restore.recovery import Target, restore_command
from walg_pg.restore.recovery import choose as choose_by_target
from walg_pg.restore.select import mask_filter
from walg_pg.restore.tablespaces import read_restore_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from walg_core.context import Context
    from walg_core.storage.api import Storage

    from walg_pg.catalog.backups import Backup


@dataclass(slots=True)
class Options:
    """The command line of `backup-fetch`."""

    destination: str
    name: str = ""
    mask: str = ""
    restore_spec: str = ""
    reverse_unpack: bool = False
    skip_redundant_tars: bool = False
    target_user_data: str = ""
    restore_only: Sequence[str] = ()
    target_storage: str = ""
    target: Target = field(default_factory=Target)
    config_file: str = ""


def prepare(context: Context, options: Options) -> Plan:
    """The plan of a restore; writes nothing. Raises WalgError."""
    options.target.check()
    storages = context.read_storages(options.target_storage)
    backup = choose(context, storages, options)
    log.info(f"Selecting the backup with name {backup.name} from storage {backup.storage.name}")
    return plan(storages, request_of(context, options, backup))


def fetch(context: Context, options: Options) -> Plan:
    """Restore; durable and complete on return. Raises WalgError."""
    found = prepare(context, options)
    Restore(context, found).run()
    log.info(f"Backup extraction complete: {found.newest.name} is in {found.destination}")
    return found


def choose(context: Context, storages: Sequence[Storage], options: Options) -> Backup:
    """The backup by name or by user data, of which exactly one is given (spec/postgres-backup.md 11.1)."""
    user_data = options.target_user_data or context.config.get("WALG_FETCH_TARGET_USER_DATA") or ""
    if options.name and user_data:
        raise UsageError(
            "a backup's name and user data are given at once",
            hint="give one of them; user data may come from WALG_FETCH_TARGET_USER_DATA",
        )
    if options.name and not (options.name == LATEST and options.target):
        return find_backup(storages, options.name)
    if options.target and not user_data:
        return choose_by_target(context, storages, options.target)
    if not user_data:
        raise UsageError("no backup is named", hint="wal-g backup-fetch DIRECTORY LATEST")
    try:
        value = json.loads(user_data)
    except ValueError as error:
        raise UsageError(f"the user data {user_data!r} is not JSON: {error}") from error
    return find_by_user_data(storages, value)


def request_of(context: Context, options: Options, backup: Backup) -> Request:
    """The options as a request. Raises UsageError, ConfigError."""
    config = context.config
    if options.mask and options.restore_only:
        raise UsageError("--mask and --restore-only exclude each other")
    recovery = {}
    if options.target:
        recovery = {"restore_command": restore_command(context, options.config_file), **options.target.settings()}
    return Request(
        destination=options.destination,
        backup=backup,
        selected=mask_filter(options.mask) if options.mask else None,
        selection=json.dumps([options.mask, list(options.restore_only), sorted(recovery.items())]),
        restore_spec=read_restore_spec(options.restore_spec) if options.restore_spec else None,
        skip_redundant=(
            options.skip_redundant_tars or bool(options.restore_only) or bool(config.get("WALG_SKIP_REDUNDANT_TARS"))
        ),
        select_from=selector(options.restore_only) if options.restore_only else None,
        recovery=recovery,
    )
