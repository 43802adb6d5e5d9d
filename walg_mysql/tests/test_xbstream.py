"""xbstreams: our writer and reader against each other, against mbstream, and against damage."""

import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from random import Random

import lz4.frame
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walg_core.errors import EngineError, IntegrityError, WalgError
from walg_core.pipeline.reader import BytesReader, Reader
from walg_mysql.xbstream.chunks import END, SPARSE, read_chunks
from walg_mysql.xbstream.extract import extract
from walg_mysql.xbstream.holes import page_size_of
from walg_mysql.xbstream.writer import Writer, data_chunk, end_chunk, sparse_chunk


class Dribble:
    """A reader that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = BytesReader(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(size, 7) if size > 0 else size)

    def close(self) -> None:
        return


def packed(files: dict[str, bytes], chunk: int = 10 << 20) -> bytes:
    out: list[bytes] = []
    writer = Writer(out.append, chunk)
    for path, data in files.items():
        writer.add(path, BytesReader(data))
    return b"".join(out)


def unpacked(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


_names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
        lambda name: name not in (".", "..") and "." not in name and len(name.encode()) <= 60
    ),
    min_size=1,
    max_size=3,
).map("/".join)


@given(st.dictionaries(_names, st.binary(max_size=400), max_size=5), st.integers(1, 200), st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_is_read_again(tmp_path: Path, files: dict[str, bytes], chunk: int, dribble: bool) -> None:
    folders = {part for name in files for part in _parents(name)}
    files = {name: data for name, data in files.items() if name not in folders}
    target = tmp_path / "out"
    shutil.rmtree(target, ignore_errors=True)
    data = packed(files, chunk)
    source: Reader = Dribble(data) if dribble else BytesReader(data)
    assert extract(source, str(target), decompress=False) == len(files)
    assert unpacked(target) == files


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:at]) for at in range(1, len(parts))]


def test_every_way_of_cutting_a_stream_is_noticed(tmp_path: Path) -> None:
    data = packed({"db/t.ibd": os.urandom(300), "empty": b""}, 128)
    ends = {len(data)}
    at = 0
    for chunk in read_chunks(BytesReader(data)):
        at += 14 + len(chunk.path) + (20 + chunk.size if chunk.kind != END else 0)
        if chunk.kind == END:
            ends.add(at)
    for size in range(1, len(data)):
        if size in ends:
            continue
        with pytest.raises(IntegrityError):
            extract(BytesReader(data[:size]), str(tmp_path / "out"))


def test_every_changed_bit_of_a_payload_is_noticed(tmp_path: Path) -> None:
    data = packed({"t": b"x" * 64})
    begin = data.index(b"x" * 64)
    for at in range(begin, begin + 64):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        with pytest.raises(IntegrityError, match="checksum"):
            extract(BytesReader(bytes(damaged)), str(tmp_path / "out"))


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_damage_gives_an_error_of_ours_or_the_same_files(tmp_path: Path, data: st.DataObject) -> None:
    files = {"a/b.ibd": bytes(range(256)) * 3, "c.zst": zstandard.compress(b"page" * 100), "d": b""}
    raw = bytearray(packed(files, 200))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    target = tmp_path / "out"
    shutil.rmtree(target, ignore_errors=True)
    try:
        extract(BytesReader(bytes(raw)), str(target))
    except (WalgError, OSError):
        # A damaged name may be one that the system refuses.
        return
    assert all(path.is_relative_to(target) for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", ["../x", "a/../../x", "..", "a/\0b"])
def test_nothing_leaves_the_directory(tmp_path: Path, path: str) -> None:
    with pytest.raises(IntegrityError):
        extract(BytesReader(data_chunk(path, 0, b"x") + end_chunk(path)), str(tmp_path / "out"))
    assert not (tmp_path / "x").exists()


def test_an_absolute_name_stays_inside(tmp_path: Path) -> None:
    extract(BytesReader(packed({"/etc/x": b"1"})), str(tmp_path / "out"))
    assert unpacked(tmp_path / "out") == {"etc/x": b"1"}


def test_a_link_in_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError):
        extract(BytesReader(packed({"db/t": b"1"})), str(tmp_path / "out"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_old_longer_file_does_not_show_through(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"old and long")
    extract(BytesReader(packed({"t": b"new"})), str(tmp_path))
    assert (tmp_path / "t").read_bytes() == b"new"


def test_interleaved_files_and_one_that_is_opened_again(tmp_path: Path) -> None:
    data = b"".join(
        [
            data_chunk("a", 0, b"aa"), data_chunk("b", 0, b"bb"), data_chunk("a", 2, b"AA"), end_chunk("a"),
            end_chunk("b"), data_chunk("a", 4, b"++"), end_chunk("a"),
        ]
    )  # fmt: skip
    extract(BytesReader(data), str(tmp_path))
    assert unpacked(tmp_path) == {"a": b"aaAA++", "b": b"bb"}


def test_holes_become_holes(tmp_path: Path) -> None:
    pairs = [(0, 4096), (1 << 20, 4096), (0, 4), (65536, 0)]
    data = sparse_chunk("t.ibd", 0, pairs, b"a" * 4096 + b"b" * 4096 + b"cccc") + end_chunk("t.ibd")
    extract(BytesReader(data), str(tmp_path))
    found = (tmp_path / "t.ibd").read_bytes()
    assert found == b"a" * 4096 + bytes(1 << 20) + b"b" * 4096 + b"cccc" + bytes(65536)
    assert (tmp_path / "t.ibd").stat().st_blocks * 512 < 1 << 19


def test_a_hole_over_data_makes_zeros(tmp_path: Path) -> None:
    data = data_chunk("t", 0, b"x" * 10000) + sparse_chunk("t", 0, [(5000, 10)], b"y" * 10) + end_chunk("t")
    extract(BytesReader(data), str(tmp_path))
    assert (tmp_path / "t").read_bytes() == bytes(5000) + b"y" * 10 + b"x" * 4990


def test_the_writer_leaves_holes_out(tmp_path: Path) -> None:
    out: list[bytes] = []
    size = Writer(out.append, 1000).add("t", BytesReader(b"a" * 3000 + b"b" * 500), [(3000, 9000)])
    assert size == 9500
    chunks = [(chunk.kind, chunk.offset, chunk.payload()) for chunk in read_chunks(BytesReader(b"".join(out)))]
    assert (SPARSE, 3000, b"") in chunks
    extract(BytesReader(b"".join(out)), str(tmp_path))
    assert (tmp_path / "t").read_bytes() == b"a" * 3000 + bytes(6000) + b"b" * 500


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".zst", zstandard.compress), (".lz4", lz4.frame.compress), (".gz", lambda data: zlib_gzip(data))],
)
def test_compressed_members_are_unpacked(tmp_path: Path, suffix: str, pack: object) -> None:
    assert callable(pack)
    body = Random(1).randbytes(50000) * 3
    data = packed({f"db/t.ibd{suffix}": pack(body), f"empty{suffix}": b""}, 1000)
    assert extract(BytesReader(data), str(tmp_path / "a")) == 2
    assert unpacked(tmp_path / "a") == {"db/t.ibd": body, "empty": b""}
    extract(BytesReader(data), str(tmp_path / "b"), decompress=False)
    assert (tmp_path / f"b/db/t.ibd{suffix}").read_bytes() == pack(body)


def zlib_gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def test_a_compressed_member_that_is_cut_is_an_error(tmp_path: Path) -> None:
    body = zstandard.compress(Random(1).randbytes(50000))
    with pytest.raises(IntegrityError, match="cut"):
        extract(BytesReader(packed({"t.zst": body[:-10]})), str(tmp_path))
    with pytest.raises(IntegrityError):
        extract(BytesReader(packed({"t.zst": b"no frame"})), str(tmp_path))


@pytest.mark.parametrize("name", ["t.ibd.qp", "t.ibd.xbcrypt", "t.ibd.zst.xbcrypt"])
def test_what_only_the_tools_can_unpack_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineError) as caught:
        extract(BytesReader(packed({name: b"x"})), str(tmp_path))
    assert "WALG_STREAM_RESTORE_COMMAND" in (caught.value.hint or "")


def test_unknown_chunks_are_skipped_only_where_they_may_be(tmp_path: Path) -> None:
    known = data_chunk("t", 0, b"1") + end_chunk("t")
    strange = bytearray(data_chunk("t", 0, b"secret"))
    strange[9] = ord("Z")
    with pytest.raises(IntegrityError, match="unknown type"):
        extract(BytesReader(bytes(strange) + known), str(tmp_path / "a"))
    strange[8] = 1
    extract(BytesReader(bytes(strange) + known), str(tmp_path / "a"))
    assert unpacked(tmp_path / "a") == {"t": b"1"}


def test_a_member_without_its_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="before the end of t"):
        extract(BytesReader(data_chunk("t", 0, b"1")), str(tmp_path))


def page(number: int, kind: int, size: int = 16384, used: int = 0) -> bytes:
    body = bytearray(Random(number).randbytes(size))
    body[24:26] = struct.pack(">H", kind)
    body[32:34] = struct.pack(">H", used)
    return bytes(body)


def test_compressed_pages_keep_what_they_use(tmp_path: Path) -> None:
    first = bytearray(page(0, 8))
    first[54:58] = struct.pack(">I", 0)
    body = bytes(first) + page(1, 17855) + page(2, 14, used=4059) + page(3, 14, used=100) + page(4, 14, used=16300)
    extract(BytesReader(packed({"t.ibd.zst": zstandard.compress(body)})), str(tmp_path))
    found = (tmp_path / "t.ibd").read_bytes()
    assert len(found) == len(body)
    assert found[: 2 * 16384] == body[: 2 * 16384]
    # 38 + 4059 bytes reach one byte into the second block of 4096.
    assert found[2 * 16384 : 2 * 16384 + 8192] == body[2 * 16384 : 2 * 16384 + 8192]
    assert found[3 * 16384 : 3 * 16384 + 4096] == body[3 * 16384 : 3 * 16384 + 4096]
    assert found[4 * 16384 :] == body[4 * 16384 :]
    if os.statvfs(tmp_path).f_bsize == 4096 and found != body:
        assert found[2 * 16384 + 8192 : 3 * 16384] == bytes(8192)
        assert found[3 * 16384 + 4096 : 4 * 16384] == bytes(12288)


def test_page_sizes_of_space_flags() -> None:
    assert page_size_of(0) == 16384
    assert page_size_of(3 << 6) == 4096
    assert page_size_of(7 << 6) == 65536
    assert page_size_of(0x15) == 0


@pytest.mark.services
def test_mbstream_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    if not shutil.which("mbstream"):
        pytest.skip("no mbstream on this machine")
    files = {"db/a.ibd": os.urandom(3 << 20), "b": b"", "c d": b"1"}
    (tmp_path / "theirs").mkdir()
    done = subprocess.run(["mbstream", "-x", "-C", tmp_path / "theirs"], input=packed(files), check=True, timeout=60)
    assert done.returncode == 0
    assert unpacked(tmp_path / "theirs") == files
    made = subprocess.run(
        ["mbstream", "-c", *files], cwd=tmp_path / "theirs", capture_output=True, check=True, timeout=60
    )
    extract(BytesReader(made.stdout), str(tmp_path / "ours"))
    assert unpacked(tmp_path / "ours") == files
