"""`backup-verify`: whether backups can be restored, without restoring them.

Structure (sentinel, file list, chain, parts), the WAL that each backup needs, and, as far as asked for, the data:
every member against the file list, every page against its checksum. What was read is remembered, so that repeated
runs over a share of the data come round to all of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from walg_core import hooks
from walg_core.errors import StorageError, UsageError, WalgError
from walg_core.health import Finding
from walg_core.io.atomic import make_dirs, write_file
from walg_core.observe import log
from walg_core.plugin_cache import directory as cache_directory

from walg_pg.catalog.backups import Backup, list_backups
from walg_pg.catalog.contents import PartCheck
from walg_pg.journal.archive import timelines
from walg_pg.lsn import segment_name
from walg_pg.names import WAL_FOLDER, timeline_of
from walg_pg.restore.chain import Link, choose_files, load_chain

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import ObjectInfo, Storage

_MEMORY_FORMAT = 1


@dataclass(slots=True)
class Report:
    """The outcome. `ok`: nothing of severity `error`. Sizes in bytes."""

    findings: list[Finding] = field(default_factory=list)
    backups: int = 0
    parts_read: int = 0
    bytes_read: int = 0
    pages: int = 0
    bytes_total: int = 0
    bytes_verified: int = 0

    @property
    def ok(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)

    def add(self, severity: Any, subject: str, message: str) -> None:
        self.findings.append(Finding(severity, subject, message))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "ok": self.ok,
            "backups": self.backups,
            "parts_read": self.parts_read,
            "bytes_read": self.bytes_read,
            "pages_checked": self.pages,
            "bytes_total": self.bytes_total,
            "bytes_verified": self.bytes_verified,
            "findings": [
                {"severity": each.severity, "subject": each.subject, "message": each.message} for each in self.findings
            ],
        }

    def as_text(self) -> str:
        """Lines for people."""
        lines = [f"{each.severity.upper():7} {each.subject}: {each.message}" for each in self.findings]
        share = 100 * self.bytes_verified // self.bytes_total if self.bytes_total else 100
        lines.append(
            f"{self.backups} backups checked, {self.parts_read} parts with {self.pages} pages read; "
            f"{share}% of the stored data has been read by this or earlier runs"
        )
        lines.append("OK" if self.ok else "FAILED")
        return "\n".join(lines)


def share_of(text: str) -> float:
    """`5%` or `all` as a fraction of 1; "" is 0. Raises UsageError."""
    if not text:
        return 0.0
    if text == "all":
        return 1.0
    number = text.removesuffix("%")
    try:
        value = float(number) / 100
    except ValueError:
        value = -1.0
    if not text.endswith("%") or not 0 < value <= 1:
        raise UsageError(f"--read-data: {text!r} is neither `all` nor a percentage like 5%")
    return value


class Memory:
    """Which parts were read and found good, and when: a file in the user's cache directory, one per storage."""

    def __init__(self, storages: Sequence[Storage], path: str | None = None) -> None:
        digest = hashlib.sha256("\n".join(storage.identity() for storage in storages).encode()).hexdigest()
        self.path = path or os.path.join(cache_directory(), f"verified-{digest[:16]}.json")
        self.checked: dict[str, list[int]] = {}
        try:
            with open(self.path, "rb") as file:
                values = json.loads(file.read())
            if values.get("format") == _MEMORY_FORMAT:
                self.checked = {key: [int(each) for each in row] for key, row in values["checked"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.checked = {}

    def when(self, info: ObjectInfo) -> int:
        """Unix seconds of the last good reading of this very object, 0 for never."""
        row = self.checked.get(info.key)
        return row[2] if row and row[:2] == [info.size, info.modified_ns] else 0

    def good(self, info: ObjectInfo) -> None:
        self.checked[info.key] = [info.size, info.modified_ns, int(time.time())]

    def save(self, existing: Iterable[str]) -> None:
        """Write it, without objects that are gone. A cache that cannot be written only costs time later."""
        keep = set(existing)
        self.checked = {key: row for key, row in self.checked.items() if key in keep}
        try:
            make_dirs(os.path.dirname(self.path), 0o700)
            write_file(self.path, json.dumps({"format": _MEMORY_FORMAT, "checked": self.checked}).encode(), mode=0o600)
        except OSError as error:
            log.warning(f"what was verified cannot be remembered in {self.path}: {error.strerror}")


class Verifier:
    """One run over one or all backups."""

    def __init__(self, context: Context, storages: Sequence[Storage], memory: Memory) -> None:
        self._context = context
        self._storages = storages
        self._memory = memory
        self._segment_size = int(context.config.get("WALG_PG_WAL_SIZE")) << 20
        self._archived: dict[str, dict[int, set[int]]] = {}
        self.report = Report()

    def run(self, backups: Sequence[Backup], share: float) -> Report:
        """Check the backups; read `share` (0 to 1) of the stored bytes of their parts. Raises StorageError."""
        links: dict[str, Link] = {}
        for backup in backups:
            self.report.backups += 1
            for link in self._structure(backup):
                links.setdefault(link.name, link)
        self._read(list(links.values()), share)
        return self.report

    def _structure(self, backup: Backup) -> list[Link]:
        try:
            chain = load_chain(self._storages, backup)
            choose_files(chain)
            self._metadata(chain[0])
            self._wal(chain[0])
        except StorageError:
            raise
        except WalgError as error:
            self.report.add("error", backup.name, str(error))
            return []
        return chain

    def _metadata(self, link: Link) -> None:
        try:
            metadata = link.backup.metadata()
        except WalgError as error:
            self.report.add("warning", link.name, f"its metadata.json cannot be read: {error}")
            return
        sentinel = link.sentinel
        if (metadata.start_lsn, metadata.finish_lsn) != (sentinel.start_lsn or 0, sentinel.finish_lsn or 0):
            self.report.add("error", link.name, "metadata.json and the sentinel speak of different positions")
        empty = [part.key for part in link.parts if part.size == 0]
        if empty:
            self.report.add("error", empty[0], f"{len(empty)} parts are empty")

    def _wal(self, link: Link) -> None:
        """The segments without which the backup cannot become consistent."""
        sentinel = link.sentinel
        if not sentinel.start_lsn or not sentinel.finish_lsn:
            self.report.add("warning", link.name, "its positions are not known: the WAL it needs cannot be told")
            return
        storage, timeline = link.backup.storage, timeline_of(link.name)
        if storage.name not in self._archived:
            found = timelines(self._context, storage.folder(WAL_FOLDER), self._segment_size)
            self._archived[storage.name] = {number: set(each.segments) for number, each in found.items()}
        there = self._archived[storage.name].get(timeline, set())
        first = sentinel.start_lsn // self._segment_size
        last = max(first, (sentinel.finish_lsn - 1) // self._segment_size)
        missing = [number for number in range(first, last + 1) if number not in there]
        if missing:
            names = ", ".join(segment_name(timeline, number, self._segment_size) for number in missing[:5])
            self.report.add("error", link.name, f"{len(missing)} WAL segments that it needs are missing: {names}")

    def _read(self, links: list[Link], share: float) -> None:
        parts = [(link, part) for link in links for part in link.parts]
        self.report.bytes_total = sum(part.size for _, part in parts)
        budget = share * self.report.bytes_total
        for link, part in sorted(parts, key=lambda each: (self._memory.when(each[1]), each[1].key)):
            if budget <= 0:
                break
            budget -= part.size
            self._read_part(link, part)
        self.report.bytes_verified = sum(part.size for _, part in parts if self._memory.when(part))
        if share:
            self._memory.save(part.key for _, part in parts)

    def _read_part(self, link: Link, part: ObjectInfo) -> None:
        check = PartCheck(self._context, link)
        try:
            check.read(part)
        except StorageError:
            raise
        except WalgError as error:
            self.report.add("error", part.key, str(error))
        else:
            for name, count in check.bad_pages:
                self.report.add("error", part.key, f"{name} has {count} pages with wrong checksums")
            if not check.bad_pages:
                self._memory.good(part)
        self.report.parts_read += 1
        self.report.bytes_read += part.size
        self.report.pages += check.pages


def verify(context: Context, name: str, read_data: str, memory_path: str | None = None) -> Report:
    """The command: one backup (with its chain) or, for "", all of them; with the findings of plugins."""
    from walg_pg.catalog.backups import find_backup

    share = share_of(read_data)
    storages = context.read_storages()
    backups = [find_backup(storages, name)] if name else list_backups(storages)
    report = Verifier(context, storages, Memory(storages, memory_path)).run(backups, share)
    report.findings += hooks.findings(context)
    return report
