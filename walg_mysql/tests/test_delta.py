"""Increments applied in place, made here by the layout of the backup tools."""

import os
import struct
from pathlib import Path
from random import Random

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import BytesReader
from walg_mysql.xbstream.delta import Meta, extract_delta
from walg_mysql.xbstream.writer import Writer

PAGE = 4096


def space(identity: int, pages: int, seed: int = 0, size: int = PAGE) -> bytes:
    body = bytearray(Random(seed + identity).randbytes(pages * size))
    body[24:26] = struct.pack(">H", 8)
    body[34:38] = struct.pack(">I", identity)
    return bytes(body)


def delta(pages: dict[int, bytes], size: int = PAGE, block: int = 0) -> bytes:
    """As the tools write it: full blocks begin with `xtra`, the last one with `XTRA`."""
    most = block or size // 4 - 1
    numbers = sorted(pages)
    groups = [numbers[at : at + most] for at in range(0, len(numbers), most)] or [[]]
    out = []
    for group in groups:
        head = (b"XTRA" if group is groups[-1] else b"xtra") + struct.pack(f">{len(group)}I", *group)
        if len(head) < size:
            head += b"\xff" * 4
        out += [head.ljust(size, b"\0"), *[pages[number] for number in group]]
    return b"".join(out)


def meta(identity: int, size: int = PAGE) -> bytes:
    return f"page_size = {size}\nzip_size = 0 \nspace_id = {identity} \n".encode()


def stream(files: list[tuple[str, bytes]]) -> BytesReader:
    out: list[bytes] = []
    writer = Writer(out.append, 5000)
    for path, data in files:
        writer.add(path, BytesReader(data))
    return BytesReader(b"".join(out))


def patched(old: bytes, pages: dict[int, bytes], size: int = PAGE) -> bytes:
    new = bytearray(old)
    for number, body in pages.items():
        new[number * size : (number + 1) * size] = body
    return bytes(new)


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pages_land_where_they_belong(tmp_path: Path, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1024, 4096, 16384]))
    pages = data.draw(st.sets(st.integers(0, 60), max_size=40))
    block = data.draw(st.integers(1, 50))
    body = {number: Random(number + 9).randbytes(size) for number in pages}
    old = space(7, 50, size=size)
    base, rest = tmp_path / "base", tmp_path / "rest"
    (base / "db").mkdir(parents=True, exist_ok=True)
    (base / "db/t.ibd").write_bytes(old)
    files = [("db/t.ibd.meta", meta(7, size)), ("db/t.ibd.delta", delta(body, size, min(block, size // 4 - 1)))]
    if data.draw(st.booleans()):
        files.reverse()
    if data.draw(st.booleans()):
        files = [(name + ".zst", zstandard.compress(held)) for name, held in files]
    assert extract_delta(stream(files), str(base), str(rest)) == 1
    new = old.ljust((max(pages, default=0) + 1) * size, b"\0")
    assert (base / "db/t.ibd").read_bytes() == patched(new, body, size)
    small = (rest / "db/t.ibd.delta").read_bytes()
    if pages:
        assert small == delta({min(pages): body[min(pages)]}, size)
    else:
        assert small == (b"XTRA" + b"\xff" * 8).ljust(size, b"\0")
    assert (rest / "db/t.ibd.meta").read_bytes() == meta(7, size)


def test_more_pages_than_fit_into_one_block(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    old = space(1, 3000, size=1024)
    (tmp_path / "base/t.ibd").write_bytes(old)
    body = {number: os.urandom(1024) for number in range(5, 2900)}
    extract_delta(
        stream([("t.ibd.meta", meta(1, 1024)), ("t.ibd.delta", delta(body, 1024))]),
        str(tmp_path / "base"),
        str(tmp_path / "rest"),
    )
    assert (tmp_path / "base/t.ibd").read_bytes() == patched(old, body, 1024)


def test_a_new_tablespace_stays_for_the_tool_and_other_files_too(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    files = [("db/n.ibd.meta", meta(9)), ("db/n.ibd.delta", delta({0: space(9, 1)})), ("xtrabackup_info", b"x")]
    assert extract_delta(stream(files), str(tmp_path / "base"), str(tmp_path / "rest")) == 0
    assert (tmp_path / "rest/db/n.ibd.delta").read_bytes() == delta({0: space(9, 1)})
    assert (tmp_path / "rest/xtrabackup_info").read_bytes() == b"x"
    assert not list((tmp_path / "base").iterdir())


def test_a_renamed_table_is_found_by_its_space(tmp_path: Path) -> None:
    (tmp_path / "base/db").mkdir(parents=True)
    (tmp_path / "base/db/old.ibd").write_bytes(space(5, 4))
    body = {2: os.urandom(PAGE)}
    files = [("db/new.ibd.meta", meta(5)), ("db/new.ibd.delta", delta(body))]
    assert extract_delta(stream(files), str(tmp_path / "base"), str(tmp_path / "rest")) == 1
    assert (tmp_path / "base/db/old.ibd").read_bytes() == patched(space(5, 4), body)
    assert (tmp_path / "rest/db/new.ibd.delta").exists()


def test_the_system_tablespace_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/ibdata1").write_bytes(space(0, 4))
    body = {3: os.urandom(PAGE)}
    files = [("ibdata1.meta", meta(0)), ("ibdata1.delta", delta(body))]
    assert extract_delta(stream(files), str(tmp_path / "base"), str(tmp_path / "rest")) == 1
    assert (tmp_path / "base/ibdata1").read_bytes() == patched(space(0, 4), body)


@pytest.mark.parametrize("cut", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE - 1])
def test_a_delta_that_is_cut_is_an_error(tmp_path: Path, cut: int) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/t.ibd").write_bytes(space(1, 4))
    whole = delta({1: os.urandom(PAGE), 3: os.urandom(PAGE)})
    with pytest.raises(IntegrityError, match="cut short"):
        extract_delta(
            stream([("t.ibd.meta", meta(1)), ("t.ibd.delta", whole[:cut])]),
            str(tmp_path / "base"),
            str(tmp_path / "rest"),
        )


@pytest.mark.parametrize(
    ("change", "why"),
    [(lambda body: b"YTRA" + body[4:], "damaged"), (lambda body: body + b"x", "goes on")],
)
def test_a_damaged_delta_is_an_error(tmp_path: Path, change: object, why: str) -> None:
    assert callable(change)
    (tmp_path / "base").mkdir()
    (tmp_path / "base/t.ibd").write_bytes(space(1, 4))
    files = [("t.ibd.meta", meta(1)), ("t.ibd.delta", change(delta({1: os.urandom(PAGE)})))]
    with pytest.raises(IntegrityError, match=why):
        extract_delta(stream(files), str(tmp_path / "base"), str(tmp_path / "rest"))


def test_a_delta_without_its_meta_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(IntegrityError, match="without its"):
        extract_delta(stream([("t.ibd.delta", delta({}))]), str(tmp_path / "base"), str(tmp_path / "rest"))


def test_two_files_of_one_space_are_refused(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    for name in ("a.ibd", "b.ibd"):
        (tmp_path / "base" / name).write_bytes(space(1, 1))
    with pytest.raises(IntegrityError, match="two files"):
        extract_delta(stream([]), str(tmp_path / "base"), str(tmp_path / "rest"))


def test_a_meta_file_must_make_sense() -> None:
    assert Meta.parse(b"page_size = 16384 \nzip_size = 0 \nspace_id = 3 \nspace_flags = 21\n", "x") == Meta(16384, 0, 3)
    for text in (b"", b"page_size = 16384\n", b"page_size = 12\nspace_id = 1\n"):
        with pytest.raises(IntegrityError):
            Meta.parse(text, "x")
