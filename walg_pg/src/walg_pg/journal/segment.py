"""Is this really the segment that its name says? Read from its first page (PostgreSQL: `access/xlog_internal.h`).

A long page header: magic u16, info u16, timeline u32, page address u64, remaining u32, padding, system identifier u64,
segment size u32, page size u32. Little-endian, as every platform that PostgreSQL is built for today.
"""

from walg_core.errors import IntegrityError

from walg_pg.lsn import is_segment_name, parse_segment_name

HEADER_SIZE = 40
LONG_HEADER = 0x0002
MAGICS = {
    0xD087: "9.5",
    0xD093: "9.6",
    0xD097: "10",
    0xD098: "11",
    0xD101: "12",
    0xD106: "13",
    0xD10D: "14",
    0xD110: "15",
    0xD113: "16",
    0xD116: "17",
    0xD118: "18",
}


def _is_magic(magic: int) -> bool:
    """Known, or of a later version: those only ever grow within the 0xD1 page."""
    return magic in MAGICS or 0xD118 < magic <= 0xD1FF


def problem(name: str, head: bytes, size: int, segment_size: int, system: int | None = None) -> str | None:
    """Why the file cannot be WAL segment `name`, in words; None when it can.

    `head` is its first 40 bytes or more, `size` its length; `system` the cluster's identifier, when known.
    """
    if not is_segment_name(name):
        return None
    timeline, number = parse_segment_name(name, segment_size)
    if size != segment_size:
        return f"it has {size} bytes instead of {segment_size}"
    magic, info = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    if not _is_magic(magic):
        return f"it does not begin with a WAL page (magic {magic:#06x})"
    if not info & LONG_HEADER:
        return "its first page has no long header"
    address = int.from_bytes(head[8:16], "little")
    if address != number * segment_size:
        return f"its first page belongs at {address:#x}, the name says {number * segment_size:#x}"
    page_timeline = int.from_bytes(head[4:8], "little")
    # After a promotion the first segment begins with pages of the parent timeline, never of a later one.
    if not 0 < page_timeline <= timeline:
        return f"its first page is of timeline {page_timeline}, the name says {timeline}"
    found_system = int.from_bytes(head[24:32], "little")
    if system and found_system and found_system != system:
        return f"it belongs to the cluster with system identifier {found_system}, this one has {system}"
    return None


def check(name: str, head: bytes, size: int, segment_size: int, where: str, system: int | None = None) -> None:
    """Raise IntegrityError when `problem` finds one. `where` says which copy is meant."""
    found = problem(name, head, size, segment_size, system)
    if found:
        raise IntegrityError(
            f"{where} is not WAL segment {name}: {found}",
            hint="check WALG_PG_WAL_SIZE, and that this archive belongs to this cluster; "
            "WALG_CHECK_WAL_HEADER=false skips this check",
        )
