"""Journals: how many stored bytes of logs lie between backups (spec/stream-backups.md 12).

A journal is a small object beside the sentinels. It is bookkeeping: nothing is restored with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from walg_core.backups import gojson, times
from walg_core.backups.catalog import FOLDER, name_time
from walg_core.backups.sentinels import Document
from walg_core.observe import log
from walg_core.storage.api import Storage

PREFIX = "journal_"
_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Journal:
    """`start_text` and `end_text` are times as stored: the ends of the backup before and of this one.

    `size` is the stored bytes of the logs from this backup to the next; 0 for the newest.
    """

    backup: str
    start_text: str
    end_text: str
    size: int = 0

    @property
    def order(self) -> tuple[int, str]:
        """By the time in the backup's name; a name without one comes first."""
        stamp = name_time(self.backup)
        return (times.ZERO if stamp is None else stamp, self.backup)


def key_of(backup: str) -> str:
    """The key of a backup's journal."""
    return f"{FOLDER}{PREFIX}{backup}"


def write(storage: Storage, journal: Journal) -> None:
    """Store a journal, replacing an older one."""
    values = {
        "PriorBackupEnd": journal.start_text,
        "CurrentBackupEnd": journal.end_text,
        "SizeToNextBackup": journal.size,
    }
    storage.put_bytes(key_of(journal.backup), gojson.dumps(values))


def read(storage: Storage, backup: str) -> Journal:
    """Raises ObjectNotFound, IntegrityError."""
    key = key_of(backup)
    document = Document.parse(storage.get(key, _LIMIT), key)
    return Journal(
        backup,
        document.text("PriorBackupEnd") or times.format_utc(times.ZERO),
        document.text("CurrentBackupEnd") or times.format_utc(times.ZERO),
        document.number("SizeToNextBackup"),
    )


def read_all(storage: Storage) -> list[Journal]:
    """All journals, oldest first. Raises IntegrityError, StorageError."""
    start = FOLDER + PREFIX
    names = [info.key[len(start) :] for info in storage.list_dir(FOLDER) if info.key.startswith(start)]
    return sorted((read(storage, name) for name in names), key=lambda journal: journal.order)


def _between(storage: Storage, archive: str, after: str, until: str) -> int | None:
    """Stored bytes of the logs that were uploaded after one time and up to another; None when there is no log."""
    first, last = times.parse(after), times.parse(until)
    found = list(storage.list_dir(archive))
    return sum(info.size for info in found if first < info.modified_ns <= last) if found else None


def add(storage: Storage, backup: str, end_ns: int, archive: str) -> None:
    """Account for a new backup that ended at `end_ns`: its journal, and the size in the one before it."""
    older = [journal for journal in read_all(storage) if journal.backup != backup]
    last = older[-1] if older else None
    start = last.end_text if last else times.format_utc(times.ZERO)
    made = Journal(backup, start, times.format_local(end_ns))
    write(storage, made)
    size = _between(storage, archive, made.start_text, made.end_text)
    if last and size is not None:
        write(storage, replace(last, size=size))


def remove(storage: Storage, backup: str, archive: str) -> None:
    """Delete a backup's journal and join its neighbours; one that is missing is only logged."""
    journals = read_all(storage)
    at = next((number for number, journal in enumerate(journals) if journal.backup == backup), None)
    if at is None:
        log.warning(f"backup {backup} has no journal")
        return
    storage.delete([key_of(backup)])
    before = journals[at - 1] if at else None
    if at + 1 < len(journals):
        after = replace(journals[at + 1], start_text=journals[at].start_text)
        write(storage, after)
        size = _between(storage, archive, after.start_text, after.end_text)
        if before and size is not None:
            write(storage, replace(before, size=size))
    elif before:
        write(storage, replace(before, size=0))
