"""Sentinels of stream backups as documents: read as the original reads them, rewritten without losing a key.

Facts: spec/stream-backups.md 3. Keys match whatever their case, the last duplicate wins, a missing key is a zero value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from walg_core.backups import gojson, times
from walg_core.backups.catalog import FOLDER, BackupObject, list_backups, name_time
from walg_core.errors import IntegrityError, ObjectNotFound
from walg_core.observe import log
from walg_core.storage.api import Storage

LIMIT = 64 << 20
"""The size in bytes up to which a sentinel is believed to be one."""


@dataclass(frozen=True, slots=True)
class SentinelForm:
    """Under which keys an engine's sentinel holds the facts that all engines share; "" where it has none.

    `parent` and `base` name the backup that an increment builds on and the full backup of its chain.
    """

    start: str = "StartLocalTime"
    finish: str = ""
    permanent: str = "IsPermanent"
    user_data: str = "UserData"
    plain_size: str = ""
    stored_size: str = ""
    parent: str = ""
    base: str = ""


class Document:
    """One JSON object with its keys in their order; unknown keys survive a rewrite."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    @classmethod
    def parse(cls, data: bytes, key: str) -> Document:
        """Raises IntegrityError naming the object `key` when it is not one JSON object."""
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise IntegrityError(
                f"the sentinel '{key}' is not JSON: {error}", hint="the object was damaged or is not a sentinel"
            ) from None
        if not isinstance(values, dict):
            raise IntegrityError(f"the sentinel '{key}' is not a JSON object")
        return cls(values)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of `name` in any case; `default` when it is absent, null, or no name is given."""
        if not name:
            return default
        value = self.values.get(name)
        if value is None:
            low = name.lower()
            for key, each in self.values.items():
                if key.lower() == low and each is not None:
                    value = each
        return default if value is None else value

    def text(self, name: str) -> str:
        """ "" when absent or not a text."""
        value = self.get(name, "")
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """0 when absent or not a number."""
        value = self.get(name, 0)
        return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0

    def flag(self, name: str) -> bool:
        return self.get(name, False) is True

    def time(self, name: str) -> int | None:
        """Nanoseconds since the epoch; None when absent, zero or malformed."""
        try:
            value = times.parse(self.text(name))
        except ValueError:
            return None
        return None if value == times.ZERO else value

    def replace(self, name: str, value: Any) -> None:
        """Set `name`, under the spelling and at the place that it has; a new key goes to the end."""
        low = name.lower()
        spelled = [key for key in self.values if key.lower() == low]
        self.values[spelled[-1] if spelled else name] = value

    def dump(self) -> bytes:
        """The object as Go writes it."""
        return gojson.dumps(self.values)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup and what its sentinel says."""

    entry: BackupObject
    document: Document
    form: SentinelForm

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def permanent(self) -> bool:
        return self.document.flag(self.form.permanent)

    @property
    def user_data(self) -> Any:
        return self.document.get(self.form.user_data)

    @property
    def parent(self) -> str:
        """The backup that this increment builds on; "" for a full one."""
        return self.document.text(self.form.parent)

    @property
    def base(self) -> str:
        """The full backup of the chain; the own name for a full one."""
        return self.document.text(self.form.base) or self.name

    @property
    def start_ns(self) -> int:
        """When it was begun: by its sentinel, else by its name, else by the storage."""
        found = self.document.time(self.form.start)
        if found is None:
            found = name_time(self.name)
        return self.entry.modified_ns if found is None else found

    @property
    def finish_ns(self) -> int | None:
        return self.document.time(self.form.finish)


def load(storage: Storage, entry: BackupObject, form: SentinelForm) -> Backup:
    """Raises ObjectNotFound, IntegrityError, any StorageError."""
    return Backup(entry, Document.parse(storage.get(entry.key, LIMIT), entry.key), form)


def load_all(storage: Storage, form: SentinelForm, folder: str = FOLDER) -> list[Backup]:
    """Every backup, in the list's order. One that vanishes meanwhile is left out; any other failure is raised."""
    found = []
    for entry in list_backups(storage, folder):
        try:
            found.append(load(storage, entry, form))
        except ObjectNotFound:
            log.warning(f"backup {entry.name} was deleted meanwhile")
    return found


def store(storage: Storage, key: str, document: Document) -> None:
    """Write a sentinel; durable on return."""
    storage.put_bytes(key, document.dump())


def same_json(left: Any, right: Any) -> bool:
    """Deep equality of JSON values: numbers as float64, the order of keys irrelevant, of arrays relevant."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return float(left) == float(right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return type(left) is type(right) and bool(left == right)


def children(backups: Sequence[Backup], name: str) -> list[Backup]:
    """The increments directly on `name`."""
    return [backup for backup in backups if backup.parent == name]
