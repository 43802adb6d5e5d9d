"""`_delta` and `_delta_part` files: the blocks that 16 segments touch (spec/postgres-wal.md 5.1-5.3). Little-endian."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import Reader, read_exactly

from walg_pg.lsn import segment_name

GROUP = 16
LOCATION = 16
END = bytes(LOCATION)
PREVIOUS_HEAD, TAIL, HEAD = 0, 1, 2
MAX_STATE = 1 << 30
_CHUNK = 1 << 16


def group_of(number: int) -> int:
    """The first segment number of a segment's group."""
    return number - number % GROUP


def delta_name(timeline: int, group: int, segment_size: int) -> str:
    """Name of the delta file of the group that begins with segment number `group`."""
    return segment_name(timeline, group, segment_size) + "_delta"


def write_delta(locations: Iterable[bytes], state: bytes) -> bytes:
    """The file's bytes: sorted locations without duplicates, the terminator, the unfinished record `state`."""
    return b"".join((*sorted(set(locations)), END, len(state).to_bytes(4, "little"), state))


def read_delta(source: Reader, name: str = "the delta file") -> tuple[set[bytes], bytes]:
    """Locations and parser state. A missing terminator is accepted, as in the original. Raises IntegrityError."""
    locations: set[bytes] = set()
    while piece := read_exactly(source, _CHUNK):
        for at in range(0, len(piece) - LOCATION + 1, LOCATION):
            location = piece[at : at + LOCATION]
            if location == END:
                return locations, _state(piece[at + LOCATION :], source, name)
            locations.add(location)
        if len(piece) % LOCATION:
            raise IntegrityError(f"{name} is cut inside a location")
    return locations, b""


def _state(rest: bytes, source: Reader, name: str) -> bytes:
    if len(rest) < 4:
        rest += read_exactly(source, 4 - len(rest))
    size = int.from_bytes(rest[:4], "little")
    if len(rest) < 4 or size > MAX_STATE:
        raise IntegrityError(f"{name} is damaged: the length of its unfinished record is wrong or missing")
    state = rest[4 : 4 + size]
    state += read_exactly(source, size - len(state)) if size > len(state) else b""
    if len(state) < size:
        raise IntegrityError(f"{name} is cut inside its unfinished record")
    return state


@dataclass(slots=True)
class Part:
    """What is known of the records that cross the segments of a group. A missing key is unknown, b"" is known."""

    previous_head: bytes | None = None
    tails: dict[int, bytes] = field(default_factory=dict)
    heads: dict[int, bytes] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every segment of the group, and the one before it, has been recorded."""
        return self.previous_head is not None and len(self.tails) == GROUP and len(self.heads) == GROUP

    def crossing(self) -> list[bytes]:
        """The records that begin in one segment and end in a later one, whole; only of a complete part.

        A record longer than a segment runs through heads of segments that have no tail; those were joined before.
        """
        before = [self.previous_head or b"", *(self.heads[at] for at in range(GROUP - 1))]
        joined = [head + self.tails[at] for at, head in enumerate(before)]
        return [record for record in joined if record]

    def write(self) -> bytes:
        """The file's bytes: tails by id, the previous head, heads by id."""
        rows = [(TAIL, at, self.tails[at]) for at in sorted(self.tails)]
        if self.previous_head is not None:
            rows.append((PREVIOUS_HEAD, 0, self.previous_head))
        rows += [(HEAD, at, self.heads[at]) for at in sorted(self.heads)]
        return b"".join(bytes((kind, at)) + len(data).to_bytes(4, "little") + data for kind, at, data in rows)

    @classmethod
    def read(cls, data: bytes, name: str = "the part file") -> Part:
        """Raises IntegrityError."""
        part, at = cls(), 0
        while at < len(data):
            kind, position, size = data[at], data[at + 1 : at + 2], int.from_bytes(data[at + 2 : at + 6], "little")
            body = data[at + 6 : at + 6 + size]
            if not position or len(body) < size or len(data) < at + 6:
                raise IntegrityError(f"{name} is cut")
            if kind == PREVIOUS_HEAD and position[0] == 0:
                part.previous_head = body
            elif kind in (TAIL, HEAD) and position[0] < GROUP:
                (part.tails if kind == TAIL else part.heads)[position[0]] = body
            else:
                raise IntegrityError(f"{name} is damaged: an entry of type {kind} for segment {position[0]}")
            at += 6 + size
        return part
