"""WAL-G's tar dialect: equal to the original's archives byte for byte, and readable by everybody else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from walg_core.pipeline import tar

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
PARTS = sorted(GOLDEN.glob("pg18-zstd/storage/basebackups_005/*/tar_partitions/*.zst"))


def field(block: bytes, start: int, end: int) -> bytes:
    return block[start:end].split(b"\0")[0]


def parsed(block: bytes) -> tar.Entry:
    return tar.Entry(
        name=field(block, 0, 100),
        size=int(field(block, 124, 136), 8),
        mode=int(field(block, 100, 108), 8),
        uid=int(field(block, 108, 116), 8),
        gid=int(field(block, 116, 124), 8),
        uname=field(block, 265, 297),
        gname=field(block, 297, 329),
        mtime=int(field(block, 136, 148), 8),
        type=block[156:157],
        link=field(block, 157, 257),
    )


@pytest.mark.skipif(not PARTS, reason=f"no golden archives in {GOLDEN}")
def test_golden_headers_are_made_byte_for_byte() -> None:
    headers = 0
    for path in PARTS:
        data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes(), read_across_frames=True).read()
        at = 0
        while any(data[at : at + 512]):
            block = data[at : at + 512]
            entry = parsed(block)
            assert tar.header(entry) == block, entry
            at += 512 + entry.size + len(tar.padding(entry.size))
            headers += 1
        assert data[at:] == tar.TRAILER
    assert headers > 1300


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda name: name.strip("/") and "//" not in name and not name.endswith("/") and not name.isspace()
)


@given(
    name=NAMES,
    size=st.integers(0, 1 << 40),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 1 << 40),
    gid=st.integers(0, 1 << 31),
    mtime=st.integers(-(1 << 33), 1 << 34),
    owner=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50),
)
@example("/base/" + "x" * 200, 8 << 30, 0o600, 0, 0, -1, "")
@example("/" + "a" * 90 + "/" + "b" * 90, 0, 0o600, 1 << 22, 0, 0, "ü")
def test_every_header_is_read_back_by_another_program(
    name: str, size: int, mode: int, uid: int, gid: int, mtime: int, owner: str
) -> None:
    entry = tar.Entry(name.encode(), size, mode, uid, gid, owner.encode(), owner.encode(), mtime)
    header = tar.header(entry)
    assert len(header) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(header + tar.TRAILER), encoding="utf-8") as archive:
        found = archive.next()
    assert found is not None
    assert (found.name, found.size, found.mode, found.uid, found.gid) == (name, size, mode, uid, gid)
    assert (int(found.mtime), found.uname, found.gname) == (mtime, owner, owner)


def test_long_paths_are_split_where_ustar_can() -> None:
    name = b"/" + b"d" * 90 + b"/" + b"f" * 60
    block = tar.header(tar.Entry(name))
    assert len(block) == 512
    assert field(block, 345, 500) == b"/" + b"d" * 90
    assert field(block, 0, 100) == b"f" * 60


def test_only_what_does_not_fit_goes_into_a_pax_header() -> None:
    blocks = tar.header(tar.Entry(b"/base/\xc3\xa4", 5, 0o600, uname=b"postgres"))
    assert len(blocks) == 3 * 512
    assert field(blocks, 0, 100) == b"/base/PaxHeaders.0"
    assert blocks[156:157] == b"x"
    assert field(blocks, 512, 1024) == b"17 path=/base/\xc3\xa4\n"
    assert field(blocks[1024:], 0, 100) == b"/base/"


@pytest.mark.parametrize(("nanoseconds", "seconds"), [(1_499_999_999, 1), (1_500_000_000, 2), (-500_000_000, 0)])
def test_times_are_rounded_to_the_nearest_second(nanoseconds: int, seconds: int) -> None:
    assert tar.rounded(nanoseconds) == seconds
