"""How entries are dealt to tars (spec/postgres-backup.md 6): each group of entries fills tars of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

from walg_core.backups.catalog import NoBackups
from walg_core.errors import EngineError, IntegrityError, ObjectNotFound, StorageError
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_pg import names
from walg_pg.backup.parts import Ledger, Shared, TarStream, Uploader
from walg_pg.backup.special import LABEL_PART
from walg_pg.backup.walk import DEFAULT_TABLESPACE, Found, Relation
from walg_pg.catalog.backups import Backup, find_backup
from walg_pg.sentinel import FileEntry, FilesMetadata
from walg_pg.server import Server

Group = Iterable[Found]
_RATINGS = """
select case when c.reltablespace = 0 then d.dattablespace else c.reltablespace end::int8, d.oid::int8,
       c.relfilenode::int8,
       coalesce(s.n_tup_ins, 0) + coalesce(s.n_tup_upd, 0) + coalesce(s.n_tup_del, 0)
from pg_class c join pg_database d on d.datname = current_database()
left join pg_stat_all_tables s on s.relid = c.oid where c.relfilenode <> 0
"""


class Dealer:
    """Gives every worker thread its next tar; several workers may fill tars of the same group."""

    def __init__(self, groups: Iterable[Group], make: Callable[[Callable[[], Found | None]], TarStream]) -> None:
        """`make` turns a source of entries into a stream."""
        self._groups = iter(groups)
        self._make = make
        self._lock = threading.Lock()
        self._shared: Shared | None = None

    def streams(self) -> Iterator[TarStream]:
        """Tars until all groups are used up; called once a thread."""
        while (shared := self._current()) is not None:
            stream = self._make(shared.take)
            yield stream
            if stream.exhausted:
                self._used_up(shared)

    def _current(self) -> Shared | None:
        with self._lock:
            if self._shared is None:
                group = next(self._groups, None)
                self._shared = None if group is None else Shared(group)
            return self._shared

    def _used_up(self, shared: Shared) -> None:
        with self._lock:
            if self._shared is shared:
                self._shared = None


def by_database(entries: Iterable[Found]) -> list[Group]:
    """Headers first, then every directory below `base` on its own, then all other files."""
    headers: list[Found] = []
    others: list[Found] = []
    databases: dict[str, list[Found]] = {}
    for found in entries:
        if not found.is_file:
            headers.append(found)
        elif found.name.startswith("/base/"):
            databases.setdefault(found.name.rsplit("/", 1)[0], []).append(found)
        else:
            others.append(found)
    return [headers, *databases.values(), others]


def by_rating(entries: Iterable[Found], ratings: Mapping[str, int], threshold: int) -> Iterator[Group]:
    """Headers first, then files by rating; a tar ends at the threshold and where ratings begin to be above 0."""
    headers: list[Found] = []
    files: list[Found] = []
    for found in entries:
        (files if found.is_file else headers).append(found)
    yield headers
    files.sort(key=lambda found: ratings.get(found.name, 0))
    group: list[Found] = []
    size, rated = 0, False
    for found in files:
        begins_rated = not rated and ratings.get(found.name, 0) > 0
        if group and (size > threshold or begins_rated):
            yield group
            group, size = [], 0
        rated = rated or begins_rated
        group.append(found)
        size += found.stat.st_size
    yield group


def rate(entries: Iterable[Found], earlier: Mapping[str, FileEntry]) -> dict[str, int]:
    """How many tuples of its relation changed, for each file; at least the count that the base recorded.

    The counters may have been reset since; the base's are found by stored name (the original never finds them).
    """
    counts = relation_ratings()
    ratings: dict[str, int] = {}
    for found in entries:
        rating = counts.get(found.relation, 0) if found.relation else 0
        known = earlier.get(found.name)
        rating = max(rating, known.updates if known else 0)
        if rating:
            ratings[found.name] = rating
    return ratings


def relation_ratings() -> dict[Relation, int]:
    """Changed tuples of every relation in every database that can be connected to."""
    counts: dict[Relation, int] = {}
    with Server.connect() as server:
        databases = [row[0] for row in server.query("select datname from pg_database where datallowconn")]
    for database in databases:
        try:
            with Server.connect(database) as server:
                for tablespace, oid, node, count in server.query(_RATINGS):
                    counts[Relation(tablespace or DEFAULT_TABLESPACE, oid, node)] = count
        except EngineError as error:
            log.warning(f"relations of database {database} are not rated: {error}")
    return counts


class Copier:
    """Reuses tars of the last full backup whose files are all unchanged (spec 6.4)."""

    def __init__(self, storage: Storage, ledger: Ledger, uploader: Uploader) -> None:
        self._storage = storage
        self._ledger = ledger
        self._uploader = uploader

    def reuse(self, entries: Iterable[Found], unchanged: Callable[[FileEntry, int], bool]) -> list[Found]:
        """Copy what can be copied; returns the entries that are still to be packed, in their order.

        `unchanged(entry, mtime)` compares a recorded with a present modification time.
        """
        present = {found.name: found for found in entries}
        source = self._source()
        if source is None:
            return list(present.values())
        backup, files = source
        number = 0
        for part, members in sorted(files.tar_sets.items()):
            if part.startswith(LABEL_PART) or not members:
                continue
            same = all(
                name in present and name in files.files and unchanged(files.files[name], present[name].mtime)
                for name in members
            )
            if same and self._copy(backup, part, number):
                number += 1
                self._take_over([present.pop(name) for name in members], files)
        return list(present.values())

    def _source(self) -> tuple[Backup, FilesMetadata] | None:
        try:
            backup = find_backup([self._storage], "LATEST")
            sentinel = backup.sentinel()
            if sentinel.delta_full_name:
                backup = find_backup([self._storage], sentinel.delta_full_name)
            return backup, backup.files_metadata()
        except NoBackups:
            log.info("There is no earlier backup to copy tars from")
        except (ObjectNotFound, IntegrityError) as error:
            log.warning(f"No tars are copied: the earlier backup cannot be read: {error}")
        return None

    def _copy(self, backup: Backup, part: str, number: int) -> bool:
        source = names.parts_prefix(backup.name) + part
        target = f"{self._uploader.prefix}copy_{number}.tar.{part.rsplit('.', 1)[-1]}"
        try:
            size = self._storage.stat(source).size
        except ObjectNotFound:
            log.warning(f"'{source}' is missing: backup {backup.name} is damaged; its files are packed again")
            return False
        self._storage.copy(source, target)
        found = self._storage.stat(target).size
        if found != size:
            raise StorageError(f"'{target}' has {found} bytes after the copy of {size}", key=target)
        self._uploader.stored[target] = size
        self._part = target.rsplit("/", 1)[-1]
        self._size = size
        return True

    def _take_over(self, members: list[Found], files: FilesMetadata) -> None:
        plain = sum(found.stat.st_size for found in members if found.is_file)
        for found in members:
            self._ledger.record(found.name, files.files[found.name])
        self._ledger.stored(self._part, [found.name for found in members], plain, self._size)
