"""Increments of WAL-G's format, applied to a file: what the format allows, and what Go WAL-G really writes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import BytesReader
from walg_core.pipeline.untar import Archive
from walg_pg.restore import increments

PAGE = 8192
LIMIT = 1 << 40


def page(fill: int) -> bytes:
    return bytes([fill % 251 + 1]) * PAGE


def body(size: int, pages: dict[int, bytes]) -> bytes:
    blocks = sorted(pages)
    head = b"wi1\x55" + struct.pack("<QI", size, len(blocks)) + struct.pack(f"<{len(blocks)}I", *blocks)
    return head + b"".join(pages[block] for block in blocks)


def member(data: bytes) -> Archive:
    """The data as the only member of a tar."""
    head = bytearray(512)
    head[0:10] = b"base/1/100"
    head[100:107], head[124:135] = b"0000600", b"%011o" % len(data)
    head[156:157], head[257:265] = b"0", b"ustar\x0000"
    head[148:156] = b" " * 8
    head[148:155] = b"%06o\0" % sum(head)
    archive = Archive(BytesReader(bytes(head) + data + bytes(-len(data) % 512) + bytes(1024)))
    next(iter(archive))
    return archive


def apply(path: Path, data: bytes) -> int:
    """Bytes of the member that were left unread."""
    archive = member(data)
    header = increments.read_header(archive, path.name, PAGE, LIMIT)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        increments.apply(archive, header, fd, path.name)
    finally:
        os.close(fd)
    return archive.left


@given(
    before=st.integers(0, 6),
    after=st.integers(0, 6),
    numbers=st.sets(st.integers(0, 9), max_size=10),
)
def test_pages_inside_the_stored_size_are_written_and_those_past_it_are_read_over(
    tmp_path_factory: pytest.TempPathFactory, before: int, after: int, numbers: set[int]
) -> None:
    path = tmp_path_factory.mktemp("increment") / "100"
    path.write_bytes(b"".join(page(number) for number in range(before)))
    pages = {number: page(100 + number) for number in numbers}
    assert apply(path, body(after * PAGE, pages)) == 0
    kept = {number: page(number) for number in range(before)} | pages
    assert path.read_bytes() == b"".join(kept.get(number, bytes(PAGE)) for number in range(after))


def test_a_file_that_grew_while_go_scanned_it(tmp_path: Path) -> None:
    """More pages past the stored size than are read at once."""
    path = tmp_path / "100"
    path.write_bytes(page(1) * 2)
    assert apply(path, body(2 * PAGE, {number: page(number) for number in range(1, 300)})) == 0
    assert path.read_bytes() == page(1) + page(1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"wi2\x55" + bytes(12), "not an increment"),
        (body(PAGE, {0: page(1)})[:-1], "announces 1 pages but holds"),
        (body(PAGE, {0: page(1)}) + b"x", "announces 1 pages but holds"),
        (body(LIMIT + PAGE, {}), "more than the whole cluster has"),
        (b"wi1\x55" + struct.pack("<QI", 2 * PAGE, 2) + struct.pack("<2I", 1, 1) + page(1) * 2, "do not ascend"),
    ],
)
def test_damaged_increments_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "100"
    path.write_bytes(page(9))
    with pytest.raises(IntegrityError, match=reason):
        apply(path, data)
    assert path.read_bytes() == page(9)
