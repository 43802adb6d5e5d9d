"""`copy` and `backup-copy`: backups with their chains, and the binlogs after them (spec/mysql.md 12).

Sentinels come after their data, a full backup's before its increments'; binlogs after the backups, their GTID set last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from walg_core.backups import copying, sentinels
from walg_core.backups.catalog import FOLDER, BackupObject
from walg_core.backups.copying import AGGREGATE, COMMIT, RECOVERY, Entry
from walg_core.errors import UsageError, WalgError

from walg_mysql.deletion import BINLOG_SENTINEL
from walg_mysql.journal.archive import list_binlogs, split_name
from walg_mysql.restore.chain import Link, chain
from walg_mysql.sentinel import FORM

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage


@dataclass(frozen=True, slots=True)
class Options:
    """`name` "": all backups. `prefix` is put before the copies' names; `history`: the binlogs too."""

    name: str = ""
    prefix: str = ""
    history: bool = False


def copy(context: Context, source_file: str, target_file: str, options: Options) -> int:
    """Copy between the storages of two configuration files; returns the number of objects copied.

    Raises NoBackups, IntegrityError for broken chains, WalgError for gaps and conflicts, StorageError.
    """
    if options.prefix and not options.name:
        raise UsageError("--add-prefix needs one --backup")
    if "/" in options.prefix or "_backup" in options.prefix:
        raise UsageError("--add-prefix must contain neither '/' nor '_backup'")
    source = copying.open_side(context, source_file, "--from")
    try:
        destination = copying.open_side(context, target_file, "--to")
        try:
            return copying.execute(source, destination, plan(source, options))
        finally:
            destination.close()
    finally:
        source.close()


def plan(source: Storage, options: Options) -> list[Entry]:
    """What would be copied."""
    # Read before the binlogs are listed: it never tells of more than what is copied.
    aggregate = _aggregate(source) if options.history else []
    asked = copying.choose(source, options.name)
    links: dict[str, tuple[Link, int]] = {}
    requested: list[Link] = []
    for entry in asked:
        found = chain(source, sentinels.load(source, entry, FORM), fitting=False)
        requested.append(found[-1])
        for depth, link in enumerate(found):
            links.setdefault(link.name, (link, depth))
    depths = {name: depth for name, (_, depth) in links.items()}
    wanted = [link.backup.entry for link, _ in links.values()]
    out = copying.entries(source, wanted, depth_of=lambda entry: depths[entry.name])
    if options.prefix:
        out = [_renamed(each, links, wanted, options.prefix) for each in out]
    if options.history:
        out += [*_history(source, requested), *aggregate]
    return out


def _renamed(entry: Entry, links: dict[str, tuple[Link, int]], wanted: Sequence[BackupObject], prefix: str) -> Entry:
    target = f"{FOLDER}{prefix}{entry.target.removeprefix(FOLDER)}"
    if entry.phase != COMMIT:
        return replace(entry, target=target)
    link = next(links[each.name][0] for each in wanted if each.key == entry.source)
    document = link.backup.document
    for key in ("DeltaFrom", "DeltaFullName"):
        if document.text(key):
            document.replace(key, prefix + document.text(key))
    body = document.dump()
    return replace(entry, target=target, body=body, size=len(body))


def _aggregate(source: Storage) -> list[Entry]:
    if not source.exists(BINLOG_SENTINEL):
        return []
    body = source.get(BINLOG_SENTINEL, sentinels.LIMIT)
    return [Entry(BINLOG_SENTINEL, BINLOG_SENTINEL, len(body), AGGREGATE, mutable=True, body=body)]


def _history(source: Storage, requested: Iterable[Link]) -> list[Entry]:
    """Every binlog from the first that a requested backup needs, in order. Raises WalgError for a gap."""
    starts: dict[str, tuple[int, str]] = {}
    for link in requested:
        name = link.sentinel.binlog_start
        if name:
            prefix, number = split_name(name)
            starts[prefix] = min(starts.get(prefix, (number, name)), (number, name))
    if not starts:
        raise WalgError(
            "selected MySQL backups contain no binlog recovery point",
            hint="copy without --with-history: no binlog was archived before these backups",
        )
    held: dict[str, dict[int, Entry]] = {prefix: {} for prefix in starts}
    for binlog in list_binlogs(source):
        prefix, number = split_name(binlog.name)
        if prefix in starts and number >= starts[prefix][0]:
            held[prefix][number] = Entry(binlog.key, binlog.key, binlog.size, RECOVERY, number)
    out: list[Entry] = []
    for prefix, (first, name) in sorted(starts.items()):
        numbers = held[prefix]
        if not numbers:
            raise WalgError(f'no MySQL binlogs found at or after "{name}"')
        for number in range(first, max(numbers) + 1):
            if number not in numbers:
                raise WalgError(f"gap in MySQL binlog history: {prefix}.{number} is missing")
            out.append(numbers[number])
    return out
