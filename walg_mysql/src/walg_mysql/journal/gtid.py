"""GTID sets of both families (spec/mysql.md 7.3, 7.9).

MySQL: `{uuid[:tag]: [(start, stop), …]}` with inclusive, merged, ascending intervals.
MariaDB: `{domain: (server, sequence)}`, the last known GTID of each domain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from walg_core.errors import IntegrityError

Intervals = list[tuple[int, int]]
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}\Z")


def _merge(intervals: Iterable[tuple[int, int]]) -> Intervals:
    out: Intervals = []
    for start, stop in sorted(intervals):
        if out and start <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        else:
            out.append((start, stop))
    return out


def _subtract(left: Intervals, right: Intervals) -> Intervals:
    out: Intervals = []
    for start, stop in left:
        for cut_start, cut_stop in right:
            if cut_stop < start or cut_start > stop:
                continue
            if cut_start > start:
                out.append((start, cut_start - 1))
            start = cut_stop + 1
            if start > stop:
                break
        if start <= stop:
            out.append((start, stop))
    return out


class MysqlGtidSet:
    """An immutable set of MySQL GTIDs. Keys are `(uuid, tag)`, the tag empty for ordinary ones."""

    def __init__(self, entries: dict[tuple[str, str], Intervals] | None = None) -> None:
        self.entries = {key: merged for key, value in (entries or {}).items() if (merged := _merge(value))}

    @classmethod
    def parse(cls, text: str) -> MysqlGtidSet:
        """From `uuid[:tag]:n[-m]…` items joined by commas, white space allowed. Raises ValueError."""
        entries: dict[tuple[str, str], Intervals] = {}
        for item in text.split(","):
            parts = [part.strip() for part in item.strip().lower().split(":")]
            if parts == [""]:
                continue
            if not _UUID.match(parts[0]):
                raise ValueError(f"{parts[0]!r} is not the UUID of a GTID")
            raw = parts[0].replace("-", "")
            uuid, tag = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}", ""
            if len(parts) == 1:
                raise ValueError(f"GTID set {item.strip()!r} has no interval")
            for part in parts[1:]:
                if _TAG.match(part):
                    tag = part
                    continue
                start, dash, stop = part.partition("-")
                if not start.isdigit() or (dash and not stop.isdigit()) or not int(start):
                    raise ValueError(f"{part!r} is not an interval of a GTID set")
                if not dash or int(stop) >= int(start):
                    entries.setdefault((uuid, tag), []).append((int(start), int(stop) if dash else int(start)))
        return cls(entries)

    def __str__(self) -> str:
        by_uuid: dict[str, list[str]] = {}
        for (uuid, tag), intervals in sorted(self.entries.items()):
            texts = [f"{a}" if a == b else f"{a}-{b}" for a, b in intervals]
            by_uuid.setdefault(uuid, []).append(":".join(([tag] if tag else []) + texts))
        return ",".join(f"{uuid}:{':'.join(parts)}" for uuid, parts in by_uuid.items())

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MysqlGtidSet) and self.entries == other.entries

    __hash__ = None  # type: ignore[assignment]

    def contains(self, other: MysqlGtidSet) -> bool:
        """Whether every GTID of `other` is in this set."""
        return not other.minus(self)

    def minus(self, other: MysqlGtidSet) -> MysqlGtidSet:
        return MysqlGtidSet({key: _subtract(value, other.entries.get(key, [])) for key, value in self.entries.items()})

    def union(self, other: MysqlGtidSet) -> MysqlGtidSet:
        merged = {key: list(value) for key, value in self.entries.items()}
        for key, value in other.entries.items():
            merged.setdefault(key, []).extend(value)
        return MysqlGtidSet(merged)

    def add(self, uuid: str, number: int, tag: str = "") -> MysqlGtidSet:
        """With one more GTID."""
        return self.union(MysqlGtidSet({(uuid, tag): [(number, number)]}))


class MariadbGtidSet:
    """A MariaDB position: per domain the server and the sequence number of its last GTID."""

    def __init__(self, domains: dict[int, tuple[int, int]] | None = None) -> None:
        self.domains = dict(domains or {})

    @classmethod
    def parse(cls, text: str) -> MariadbGtidSet:
        """From `domain-server-sequence` items joined by commas. Raises ValueError."""
        domains: dict[int, tuple[int, int]] = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            numbers = item.split("-")
            if len(numbers) != 3 or not all(number.isdigit() for number in numbers):
                raise ValueError(f"{item!r} is not a MariaDB GTID (domain-server-sequence)")
            domains[int(numbers[0])] = (int(numbers[1]), int(numbers[2]))
        return cls(domains)

    def __str__(self) -> str:
        return ",".join(sorted(f"{domain}-{server}-{sequence}" for domain, (server, sequence) in self.domains.items()))

    def __bool__(self) -> bool:
        return bool(self.domains)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MariadbGtidSet) and self.domains == other.domains

    __hash__ = None  # type: ignore[assignment]

    def contains(self, other: MariadbGtidSet) -> bool:
        """Whether for each domain of `other` this position is at its sequence or later (server ids do not count)."""
        return all(
            domain in self.domains and self.domains[domain][1] >= sequence
            for domain, (_, sequence) in other.domains.items()
        )

    def union(self, other: MariadbGtidSet) -> MariadbGtidSet:
        """Per domain the later position: it never moves backwards (spec/mysql.md 14, row 11)."""
        merged = dict(self.domains)
        for domain, (server, sequence) in other.domains.items():
            if domain not in merged or merged[domain][1] < sequence:
                merged[domain] = (server, sequence)
        return MariadbGtidSet(merged)


GtidSet = MysqlGtidSet | MariadbGtidSet


def contains(position: GtidSet, other: GtidSet) -> bool:
    """Whether `position` has everything of `other`; sets of different families never have."""
    if isinstance(position, MysqlGtidSet) and isinstance(other, MysqlGtidSet):
        return position.contains(other)
    return isinstance(position, MariadbGtidSet) and isinstance(other, MariadbGtidSet) and position.contains(other)


def decode_previous_gtids(body: bytes) -> MysqlGtidSet:
    """The body of a previous-GTIDs event (type 35, without header and checksum). Raises IntegrityError."""
    try:
        return decode_gtid_set(body)
    except (IndexError, ValueError) as error:
        raise IntegrityError(f"the previous-GTIDs event is damaged: {error}") from error


def decode_gtid_set(body: bytes) -> MysqlGtidSet:
    """The binary form of type 35 and of COM_BINLOG_DUMP_GTID. Raises ValueError, IndexError."""
    at = 0

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(body):
            raise ValueError(f"it ends at byte {len(body)}, {size} bytes short")
        at += size
        return int.from_bytes(body[at - size : at], "little")

    count = number(8)
    # Tagged format (MySQL >= 8.3): byte 7 is 1 and the count sits in bytes 1 to 6.
    tagged = count >> 56 == 1
    if tagged:
        count = (count >> 8) & 0xFFFFFFFFFFFF
    entries: dict[tuple[str, str], Intervals] = {}
    for _ in range(count):
        raw = number(16).to_bytes(16, "little").hex()
        tag = ""
        if tagged:
            size = number(1) // 2
            tag = number(size).to_bytes(size, "little").decode("ascii")
        uuid = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
        for _ in range(number(8)):
            start, stop = number(8), number(8)
            if stop > start:
                entries.setdefault((uuid, tag), []).append((start, stop - 1))
    return MysqlGtidSet(entries)


def encode_gtid_set(gtids: MysqlGtidSet) -> bytes:
    """The binary form of type 35 and of COM_BINLOG_DUMP_GTID; tagged only where a tag is present."""
    tagged = any(tag for _, tag in gtids.entries)
    count = len(gtids.entries)
    out = [(count << 8 | 1 << 56 | 1 if tagged else count).to_bytes(8, "little")]
    for (uuid, tag), intervals in sorted(gtids.entries.items()):
        out.append(bytes.fromhex(uuid.replace("-", "")))
        if tagged:
            out.append(bytes([len(tag) * 2]) + tag.encode("ascii"))
        out.append(len(intervals).to_bytes(8, "little"))
        out.extend(start.to_bytes(8, "little") + (stop + 1).to_bytes(8, "little") for start, stop in intervals)
    return b"".join(out)


def decode_gtid_list(body: bytes) -> MariadbGtidSet:
    """The body of MariaDB's GTID list event (type 163). Within one domain the last entry counts."""
    count = int.from_bytes(body[:4], "little") & 0x0FFFFFFF
    if len(body) < 4 or len(body) < 4 + 16 * count:
        raise IntegrityError("the GTID list event is damaged: it is shorter than its count says")
    domains: dict[int, tuple[int, int]] = {}
    for at in range(4, 4 + 16 * count, 16):
        domain = int.from_bytes(body[at : at + 4], "little")
        server = int.from_bytes(body[at + 4 : at + 8], "little")
        domains[domain] = (server, int.from_bytes(body[at + 8 : at + 16], "little"))
    return MariadbGtidSet(domains)
