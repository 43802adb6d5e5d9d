"""Found entries that are kept until all are known: some 45 bytes for a file in place of a thousand."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from walg_core.pipeline import tar

from walg_pg.backup.walk import Found, Status

_Common = tuple[str, str, int, int, int]
"""What the files of a directory have in common: tar name and path of the directory, mode, uid, gid."""
_CODING = ("utf-8", "surrogatepass")
"""Keeps every text, whatever the file system's coding is."""


class Held:
    """A list of entries. Files are kept in columns and made anew when asked for, with what a backup needs of their
    status; anything else, rare and irregular, is kept as it is.

    Filled by one thread; may be read by several at once.
    """

    def __init__(self, entries: Iterable[Found] = ()) -> None:
        self._names = bytearray()
        self._ends = array("q")
        self._sizes = array("q")
        self._mtimes = array("q")
        self._kinds = array("l")
        self._common: list[_Common] = []
        self._known: dict[_Common, int] = {}
        self._updates = array("q")
        self._others: dict[int, Found] = {}
        for found in entries:
            self.add(found)

    def add(self, found: Found) -> None:
        """Append an entry."""
        status = found.stat
        folder, _, base = found.name.rpartition("/")
        path, _, end = found.path.rpartition("/")
        if found.type != tar.FILE or end != base:
            self._others[len(self._ends)] = found
            kind = -1
        else:
            common = (folder, path, status.st_mode, status.st_uid, status.st_gid)
            known = self._known.get(common)
            if known is None:
                known = self._known[common] = len(self._common)
                self._common.append(common)
            kind = known
            self._names += base.encode(*_CODING)
        self._ends.append(len(self._names))
        self._sizes.append(status.st_size)
        self._mtimes.append(status.st_mtime_ns)
        self._kinds.append(kind)
        self._updates.append(found.updates)

    def rate(self, place: int, updates: int) -> None:
        """Set how many tuples of an entry's relation changed; more than 63 bits can hold counts as the most."""
        self._updates[place] = min(updates, (1 << 63) - 1)

    def size(self, place: int) -> int:
        """Bytes of the entry's data; 0 for all that is no file."""
        other = self._others.get(place)
        return self._sizes[place] if other is None or other.is_file else 0

    def mtime(self, place: int) -> int:
        """Modification time in nanoseconds."""
        return self._mtimes[place]

    def updates(self, place: int) -> int:
        """What `rate` has set."""
        return self._updates[place]

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> Found:
        updates = self._updates[place]
        if (kind := self._kinds[place]) < 0:
            return self._others[place]._replace(updates=updates)
        folder, path, mode, uid, gid = self._common[kind]
        base = self._names[self._ends[place - 1] if place else 0 : self._ends[place]].decode(*_CODING)
        status = Status(mode, uid, gid, 0, self._sizes[place], self._mtimes[place])
        return Found(f"{folder}/{base}", f"{path}/{base}", status, tar.FILE, "", updates)

    def __iter__(self) -> Iterator[Found]:
        for place in range(len(self)):
            yield self[place]

    def names(self) -> Iterator[str]:
        """The tar names alone."""
        start = 0
        for place, (end, kind) in enumerate(zip(self._ends, self._kinds, strict=True)):
            if kind < 0:
                yield self._others[place].name
            else:
                yield f"{self._common[kind][0]}/{self._names[start:end].decode(*_CODING)}"
            start = end

    def some(self, places: Sequence[int]) -> Iterator[Found]:
        """The entries at these places, in the order of these."""
        for place in places:
            yield self[place]
