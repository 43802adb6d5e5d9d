"""Page scans, increments, checksums and verification, on pages of a real server and on made-up ones."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.pipeline import tar
from walg_pg.backup.blocks import RecordedBlocks, SummarizedBlocks
from walg_pg.backup.checksums import _BASES, checksums
from walg_pg.backup.contents import DataFiles
from walg_pg.backup.increments import IncrementContent, Incrementer, increment_header
from walg_pg.backup.pages import Scanner
from walg_pg.backup.verification import Verification
from walg_pg.backup.walk import Found, Relation, relation_of

PAGE = 8192
NODE = Relation(1663, 5, 16384)


def page_of(lsn: int, block: int = 0, *, sum_it: bool = True, fill: int = 0) -> bytes:
    head = struct.pack("<IIHHHHHHI", lsn >> 32, lsn & 0xFFFFFFFF, 0, 0, 100, 8000, PAGE, PAGE | 4, 0)
    page = bytearray(head + bytes([fill]) * (PAGE - len(head)))
    if sum_it:
        value = scalar_checksum(bytes(page), block)
        page[8:10] = struct.pack("<H", value)
    return bytes(page)


def scalar_checksum(page: bytes, block: int) -> int:
    """The definition, one word after the other."""
    page = page[:8] + b"\0\0" + page[10:]
    sums = [int(each) for each in _BASES]

    def mix(value: int, word: int) -> int:
        value ^= word
        return (value * 16777619 & 0xFFFFFFFF) ^ (value >> 17)

    words = struct.unpack(f"<{len(page) // 4}I", page)
    for place, word in enumerate(words):
        sums[place % 32] = mix(sums[place % 32], word)
    for _ in range(2):
        sums = [mix(value, 0) for value in sums]
    result = block
    for value in sums:
        result ^= value
    return result % 65535 + 1


def found_at(path: Path) -> Found:
    return Found("/base/5/16384", str(path), os.stat(path), tar.FILE)


def everything(content) -> bytes:
    parts = []
    while piece := content.read(1 << 20):
        parts.append(piece)
    content.close()
    return b"".join(parts)


@given(
    data=st.binary(min_size=64, max_size=64), block=st.integers(0, (1 << 32) - 1), size=st.sampled_from([4096, 8192])
)
def test_checksums_equal_the_definition(data: bytes, block: int, size: int) -> None:
    pages = [(data * (size // 64)), bytes(size), os.urandom(size)]
    got = checksums(b"".join(pages), 3, size, np.array([block] * 3, np.uint32))
    assert list(got) == [scalar_checksum(page, block) for page in pages]


def test_pages_of_a_server_have_the_computed_checksums(site) -> None:
    site.query("checkpoint")
    checked = 0
    for path in (site.data / "base").glob("*/*"):
        if not path.name.isdigit() or path.stat().st_size == 0:
            continue
        data = path.read_bytes()
        count = len(data) // PAGE
        computed = checksums(data, count, PAGE, np.arange(count, dtype=np.uint32))
        stored = np.frombuffer(data, "<u2").reshape(count, -1)[:, 4]
        used = np.frombuffer(data, "<u2").reshape(count, -1)[:, 7] != 0
        assert np.array_equal(computed[used], stored[used]), path
        checked += count
    assert checked > 1000


@given(lsns=st.lists(st.one_of(st.none(), st.integers(1, 1 << 40)), max_size=30), since=st.integers(0, 1 << 40))
def test_scan_finds_new_pages_and_those_written_since(lsns: list[int | None], since: int) -> None:
    data = b"".join(bytes(PAGE) if lsn is None else page_of(lsn, sum_it=False) for lsn in lsns) + b"partial"

    def read(view: memoryview, offset: int) -> int:
        piece = data[offset : offset + min(len(view), 3 * PAGE + 11)]
        view[: len(piece)] = piece
        return len(piece)

    changed = Scanner(PAGE).changed(read, len(data), since)
    assert changed is not None
    assert list(changed) == [place for place, lsn in enumerate(lsns) if lsn is None or lsn >= since]


@pytest.mark.parametrize(
    ("offset", "value"), [(10, 8), (12, 23), (12, 8001), (14, 8193), (16, 8193), (18, 4096 | 4), (18, PAGE | 6)]
)
def test_scan_refuses_pages_that_make_no_sense(offset: int, value: int) -> None:
    page = bytearray(page_of(77))
    page[offset : offset + 2] = struct.pack("<H", value)
    data = page_of(5) + bytes(page)

    def read(view: memoryview, place: int) -> int:
        piece = data[place : place + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    assert Scanner(PAGE).changed(read, len(data), 1) is None


@settings(deadline=None)
@given(blocks=st.sets(st.integers(0, 19)), sizes=st.lists(st.integers(1, 30000), min_size=1, max_size=5))
def test_increment_has_the_documented_layout(blocks: set[int], sizes: list[int]) -> None:
    pages = [bytes([number]) * PAGE for number in range(17)]
    numbers = np.array(sorted(blocks), np.uint32)
    path = Path("/tmp") / f"walg-increment-{os.getpid()}-{threading.get_ident()}"
    path.write_bytes(b"".join(pages))
    try:
        files = DataFiles()
        content = IncrementContent(files, files.open(str(path)), str(path), 20 * PAGE, numbers, PAGE)
        got, turn = b"", 0
        while piece := content.read(sizes[turn % len(sizes)]):
            got += piece
            turn += 1
        content.close()
    finally:
        path.unlink()
    expected = (
        b"wi1\x55"
        + struct.pack("<QI", 20 * PAGE, len(blocks))
        + b"".join(struct.pack("<I", block) for block in sorted(blocks))
    )
    # Pages that disappeared (17 to 19) are zeros.
    expected += b"".join(pages[block] if block < 17 else bytes(PAGE) for block in sorted(blocks))
    assert got == expected
    assert content.size == len(expected)
    assert increment_header(20 * PAGE, numbers) == expected[: 16 + 4 * len(blocks)]


def test_maps_give_each_segment_its_own_blocks(tmp_path: Path) -> None:
    recorded = RecordedBlocks({NODE: np.array([1, 5, 131072, 131079, 131080], np.uint32)}.get)
    assert list(recorded.within(NODE, 0, 3)) == [1]
    assert list(recorded.within(NODE, 131072, 8)) == [0, 7]
    assert list(recorded.within(NODE._replace(node=9), 0, 8)) == []
    summarized = SummarizedBlocks({NODE: np.array([1, 5], np.uint32)}, {NODE: 6, NODE._replace(node=9): 0})
    assert list(summarized.within(NODE, 0, 8)) == [1, 5, 6, 7]
    assert list(summarized.within(NODE, 131072, 2)) == [0, 1]
    assert list(summarized.within(NODE._replace(node=9), 0, 2)) == [0, 1]


def test_candidates_of_increments(tmp_path: Path) -> None:
    names = {
        "/base/5/16384": (NODE, 0),
        "/base/5/16384.3": (NODE, 3),
        "/pg_tblspc/9/PG_18_1/5/16384": (Relation(9, 5, 16384), 0),
        "/base/5/16384_fsm": (None, 0),
        "/base/5/t3_16384": (None, 0),
        "/global/1262": (None, 0),
        "/pg_xact/0000": (None, 0),
        "/base/base/16384": (None, 0),
    }
    assert {name: relation_of(name) for name in names} == names
    path = tmp_path / "16384"
    path.write_bytes(bytes(PAGE + 1))
    incrementer = Incrementer(DataFiles(), PAGE, 1, None)
    assert not incrementer.is_paged(found_at(path))
    path.write_bytes(b"")
    assert not incrementer.is_paged(found_at(path))


def verified(path: Path, start_lsn: int, store_all: bool = False):
    files = DataFiles()
    verification = Verification(files, PAGE, start_lsn, store_all)
    found = found_at(path)
    fd = files.open(str(path))
    from walg_pg.backup.contents import FileContent

    content = verification.whole(FileContent(files, fd, str(path), found.stat.st_size), found, fd)
    # Odd pieces, as a tar's headers make them.
    data = b""
    while piece := content.read(5000):
        data += piece
    content.close()
    assert data == path.read_bytes()
    return verification, content.corrupt


def test_damaged_pages_are_found_and_recorded(tmp_path: Path) -> None:
    pages = [page_of(50, block) for block in range(20)]
    pages[3] = bytes(PAGE)
    for block in range(5, 17):
        pages[block] = pages[block][:5000] + b"!" + pages[block][5001:]
    pages[18] = page_of(50, 18, sum_it=False)
    pages[19] = pages[19][:12] + b"\xff\xff" + pages[19][14:]
    path = tmp_path / "16384"
    path.write_bytes(b"".join(pages))
    bad = [*range(5, 17), 19]
    verification, corrupt = verified(path, 1000)
    assert corrupt == (len(bad), tuple(bad[:10]))
    assert (verification.pages, verification.corrupt, verification.damaged_files) == (20, len(bad), 1)
    _, corrupt = verified(path, 1000, store_all=True)
    assert corrupt == (len(bad), tuple(bad))
    # Pages written after the backup's start are replaced by recovery, whatever state they were read in.
    assert verified(path, 40)[1] is None


def test_a_page_that_was_being_written_is_no_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "16384"
    good = page_of(50, 0)
    path.write_bytes(good[:4096] + b"?" * 4096)
    files = DataFiles()
    verification = Verification(files, PAGE, 1000)
    fd = files.open(str(path))
    torn = path.read_bytes()
    path.write_bytes(good)
    try:
        assert verification.bad_blocks(torn, 1, np.array([0], np.uint32), found_at(path), fd) == []
    finally:
        os.close(fd)


def test_no_false_alarm_under_load(site) -> None:
    def load() -> None:
        for turn in range(15):
            site.query(f"update t set v = v || '{turn % 10}' where id % 7 = {turn % 7}")

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(3):
            done = site.wal_g("backup-push", str(site.data), "--verify", WALG_VERIFY_EXIT_CODE="3")
            assert "none corrupt" in done.stderr
    finally:
        thread.join()


def test_corruption_sets_the_chosen_exit_code(site) -> None:
    site.query("create table broken as select * from t limit 500")
    node = site.query("select pg_relation_filepath('broken')")
    site.query("checkpoint")
    with open(site.data / node, "r+b") as file:
        file.seek(PAGE + 4000)
        file.write(b"damage")
    try:
        before = set(site.names())
        done = site.wal_g("backup-push", str(site.data), "--verify", "--full", check=False, WALG_VERIFY_EXIT_CODE="3")
        assert done.returncode == 3
        assert f"Corruption found in {site.data / node}/[1], expected" in done.stderr
        (name,) = set(site.names()) - before
        row = site.json(name, "files_metadata.json")["Files"]["/" + node]
        assert row["CorruptBlocks"] == {"CorruptBlocksCount": 1, "SomeCorruptBlocks": [1]}
        assert list(row) == ["IsIncremented", "IsSkipped", "MTime", "CorruptBlocks", "UpdatesCount"]
    finally:
        site.query("drop table broken")
