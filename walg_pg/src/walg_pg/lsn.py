"""Positions in the write-ahead log and the names of its segments (spec/postgres-wal.md 1).

A segment is `(timeline, number)`; `number` = LSN // segment size. Light: the cold path uses it.
"""

from walg_core.errors import WalgError

HEX = frozenset("0123456789ABCDEFabcdef")


class NotASegmentName(WalgError):
    """The text is not the name of a WAL segment (a history, label, partial or foreign file perhaps)."""


def format_lsn(lsn: int) -> str:
    """`%X/%X` of the high and low 32 bits."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """The inverse of `format_lsn`, either hex case. Raises ValueError."""
    high, slash, low = text.partition("/")
    if not slash or not (0 < len(high) <= 8 and 0 < len(low) <= 8) or not HEX.issuperset(high + low):
        raise ValueError(f"{text!r} is not an LSN of the form X/Y")
    return int(high, 16) << 32 | int(low, 16)


def segments_per_id(segment_size: int) -> int:
    return 0x100000000 // segment_size


def segment_name(timeline: int, number: int, segment_size: int) -> str:
    """24 upper-case hex digits."""
    high, low = divmod(number, segments_per_id(segment_size))
    return f"{timeline:08X}{high:08X}{low:08X}"


def parse_segment_name(name: str, segment_size: int) -> tuple[int, int]:
    """`(timeline, number)`. Raises NotASegmentName."""
    if len(name) != 24 or not HEX.issuperset(name):
        raise NotASegmentName(f"{name!r} is not the name of a WAL segment")
    timeline, high, low = int(name[:8], 16), int(name[8:16], 16), int(name[16:], 16)
    per_id = segments_per_id(segment_size)
    if low >= per_id:
        raise NotASegmentName(
            f"{name!r} is not a segment of {segment_size >> 20} MiB: its last part is not below {per_id:#x}",
            hint="set WALG_PG_WAL_SIZE to the cluster's wal_segment_size in MiB",
        )
    return timeline, high * per_id + low


def is_segment_name(name: str) -> bool:
    """Whether it is 24 hex digits, of whatever segment size."""
    return len(name) == 24 and HEX.issuperset(name)


def next_segment_name(name: str, segment_size: int) -> str:
    """The following segment on the same timeline."""
    timeline, number = parse_segment_name(name, segment_size)
    return segment_name(timeline, number + 1, segment_size)
