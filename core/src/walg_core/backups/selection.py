"""Choosing one backup: by name, `LATEST`, or user data (spec/stream-backups.md 7)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from walg_core.backups.catalog import FOLDER, BackupObject, NoBackups, find, list_backups
from walg_core.backups.sentinels import SentinelForm, load, same_json
from walg_core.errors import IntegrityError, ObjectNotFound, UsageError, WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage

Where = tuple[Storage, BackupObject]
UserDataOf = Callable[[Storage, BackupObject], Any]


def parse_user_data(text: str, origin: str = "--add-user-data") -> Any:
    """The JSON value of a text; None for an empty one. Raises UsageError naming `origin`."""
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{origin} is not valid JSON: {error}", hint="write a text with its quotes: '\"nightly\"'"
        ) from None


def by_form(form: SentinelForm) -> UserDataOf:
    """Reads user data from the sentinels of that form."""

    def read(storage: Storage, entry: BackupObject) -> Any:
        return load(storage, entry, form).user_data

    return read


def find_by_user_data(
    storages: Sequence[Storage], wanted: Any, user_data_of: UserDataOf, folder: str = FOLDER
) -> Where:
    """The only backup whose user data equals `wanted`. Raises NoBackups, or WalgError when several names do."""
    found: dict[str, Where] = {}
    for storage in storages:
        for entry in list_backups(storage, folder):
            try:
                held = user_data_of(storage, entry)
            except (ObjectNotFound, IntegrityError) as error:
                log.warning(f"backup {entry.name} is not searched for its user data: {error}")
                continue
            if held is not None and same_json(held, wanted):
                found.setdefault(entry.name, (storage, entry))
    if not found:
        raise NoBackups(hint="no backup has this user data; `wal-g backup-list --detail --json` shows it")
    if len(found) > 1:
        names = " ".join(found)
        raise WalgError(
            f"too many backups ({len(found)}) found with specified user data: {names}", hint="name the backup instead"
        )
    return next(iter(found.values()))


def find_by_name(storages: Sequence[Storage], name: str, folder: str = FOLDER) -> Where:
    """The backup of that name in the first storage that has it, `LATEST` over all. Raises NoBackups."""
    if name == "LATEST":
        newest = [(storage, entries[-1]) for storage in storages if (entries := list_backups(storage, folder))]
        if not newest:
            raise NoBackups(hint="make one with `wal-g backup-push`, or check the storage's settings")
        chosen = max(newest, key=lambda pair: pair[1].order)
        log.info(f"LATEST backup is: '{chosen[1].name}'")
        return chosen
    failure: NoBackups | None = None
    for storage in storages:
        try:
            return storage, find(storage, name, folder)
        except NoBackups as error:
            failure = error
    raise failure or NoBackups()


def select(
    storages: Sequence[Storage],
    name: str,
    user_data: str,
    user_data_of: UserDataOf,
    *,
    origin: str = "--target-user-data",
    folder: str = FOLDER,
) -> Where:
    """By `name` (or `LATEST`) or by `user_data` (JSON text): exactly one is given. Raises UsageError, NoBackups."""
    if name and user_data:
        raise UsageError("incorrect arguments. Specify target backup name OR target userdata, not both")
    if user_data:
        return find_by_user_data(storages, parse_user_data(user_data, origin), user_data_of, folder)
    if not name:
        raise UsageError("insufficient arguments: name a backup, or LATEST, or its user data")
    return find_by_name(storages, name, folder)
