"""How entries are dealt to tars (spec/postgres-backup.md 6): each group of entries fills tars of its own."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping

from walg_core.backups.catalog import NoBackups
from walg_core.errors import EngineError, IntegrityError, ObjectNotFound, StorageError
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_pg import names
from walg_pg.backup.held import Held
from walg_pg.backup.parts import Ledger, Shared, TarStream, Uploader
from walg_pg.backup.special import LABEL_PART
from walg_pg.backup.walk import DEFAULT_TABLESPACE, Found, Relation, relation_of
from walg_pg.catalog.backups import Backup, find_backup
from walg_pg.sentinel import FileEntry, FilesMetadata, Known
from walg_pg.server import Server

Group = Iterable[Found]
_ABSENT = -1
_RATINGS = """
select case when c.reltablespace = 0 then d.dattablespace else c.reltablespace end::int8, d.oid::int8,
       c.relfilenode::int8,
       coalesce(s.n_tup_ins, 0) + coalesce(s.n_tup_upd, 0) + coalesce(s.n_tup_del, 0)
from pg_class c join pg_database d on d.datname = current_database()
left join pg_stat_all_tables s on s.relid = c.oid where c.relfilenode <> 0
  and coalesce(s.n_tup_ins, 0) + coalesce(s.n_tup_upd, 0) + coalesce(s.n_tup_del, 0) <> 0
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


def apart(entries: Iterable[Found]) -> tuple[list[Found], Held]:
    """Headers and files."""
    headers: list[Found] = []
    files = Held()
    for found in entries:
        (files.add if found.is_file else headers.append)(found)
    return headers, files


def by_database(entries: Iterable[Found]) -> list[Group]:
    """Headers first, then every directory below `base` on its own, then all other files."""
    headers: list[Found] = []
    others = Held()
    databases: dict[str, Held] = {}
    for found in entries:
        if not found.is_file:
            headers.append(found)
        elif found.name.startswith("/base/"):
            place = found.name.rpartition("/")[0]
            if (held := databases.get(place)) is None:
                held = databases[place] = Held()
            held.add(found)
        else:
            others.add(found)
    return [headers, *databases.values(), others]


def by_rating(headers: Group, files: Held, threshold: int) -> Iterator[Group]:
    """Headers first, then files by rating; a tar ends at the threshold and where ratings begin to be above 0."""
    yield headers
    rated = sorted((place for place in range(len(files)) if files.updates(place)), key=files.updates)
    unrated = len(files) - len(rated)
    order = array("q", (place for place in range(len(files)) if not files.updates(place)))
    order.extend(rated)
    del rated
    begin, size = 0, 0
    for at, place in enumerate(order):
        if at > begin and (size > threshold or at == unrated):
            yield files.some(order[begin:at])
            begin, size = at, 0
        size += files.size(place)
    yield files.some(order[begin:])


def rate(files: Held, earlier: Mapping[str, Known]) -> None:
    """Note how many tuples of its relation changed, for each file; at least the count that the base recorded.

    The counters may have been reset since; the base's are found by stored name (the original never finds them).
    """
    counts = relation_ratings()
    for place, name in enumerate(files.names()):
        relation, _ = relation_of(name)
        rating = counts.get(relation, 0) if relation else 0
        known = earlier.get(name)
        rating = max(rating, known.updates if isinstance(known, FileEntry) else 0)
        if rating:
            files.rate(place, rating)


def relation_ratings() -> dict[Relation, int]:
    """Changed tuples of every relation that has any, in every database that can be connected to."""
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

    def reuse(self, entries: Iterable[Found], unchanged: Callable[[FileEntry, int], bool]) -> Group:
        """Copy what can be copied; returns the entries that are still to be packed, in their order.

        `unchanged(entry, mtime)` compares a recorded with a present modification time.
        """
        held = Held(entries)
        source = self._source()
        if source is None:
            return held
        backup, files = source
        # Where each recorded name is now; the texts of the names are those of the record, not copies.
        places = dict.fromkeys(files.files, _ABSENT)
        for place, name in enumerate(held.names()):
            if name in places:
                places[name] = place
        taken = bytearray(len(held))
        number = 0
        for part, members in sorted(files.tar_sets.items()):
            if part.startswith(LABEL_PART) or not members:
                continue
            same = all(
                (place := places.get(name, _ABSENT)) != _ABSENT and unchanged(files.files[name], held.mtime(place))
                for name in members
            )
            if same and self._copy(backup, part, number):
                number += 1
                plain = 0
                for name in members:
                    place, places[name] = places[name], _ABSENT
                    if place == _ABSENT:
                        continue  # The tar has it twice.
                    taken[place] = 1
                    plain += held.size(place)
                    self._ledger.record(name, files.files[name])
                self._ledger.stored(self._part, members, plain, self._size)
        return held.some(array("q", (place for place in range(len(held)) if not taken[place])))

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
