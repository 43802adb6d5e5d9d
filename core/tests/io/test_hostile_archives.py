"""Hostile archives (reliability figures F1, F2): whatever a tar says, nothing outside the destination changes."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from walg_core.errors import WalgError
from walg_core.io.destination import Destination, components, show, write_all
from walg_core.pipeline import untar
from walg_core.pipeline.reader import BytesReader

EXAMPLES = int(os.environ.get("WALG_TEST_EXAMPLES", "1500"))


def block(name: bytes = b"a", **fields: object) -> bytes:
    """One header block with a correct checksum; every field can be given raw bytes."""
    given_ = {
        "mode": b"0000600\0", "uid": b"0000000\0", "gid": b"0000000\0", "size": b"00000000000\0",
        "mtime": b"00000000000\0", "kind": b"0", "link": b"", "magic": b"ustar\x0000", "prefix": b"",
    }  # fmt: skip
    given_.update(fields)  # type: ignore[arg-type]
    if isinstance(given_["size"], int):
        given_["size"] = b"%011o\0" % given_["size"]
    out = bytearray(512)

    def put(at: int, value: bytes, room: int) -> None:
        out[at : at + min(len(value), room)] = value[:room]

    put(0, name, 100)
    put(100, given_["mode"], 8)
    put(108, given_["uid"], 8)
    put(116, given_["gid"], 8)
    put(124, given_["size"], 12)
    put(136, given_["mtime"], 12)
    put(148, b"        ", 8)
    put(156, given_["kind"], 1)
    put(157, given_["link"], 100)
    put(257, given_["magic"], 8)
    put(345, given_["prefix"], 155)
    put(148, given_.get("checksum") or b"%06o\0 " % sum(out), 8)  # type: ignore[arg-type]
    return bytes(out)


def entry(name: bytes, data: bytes = b"x", **fields: object) -> bytes:
    return block(name, size=len(data), **fields) + data + bytes(-len(data) % 512)


def pax(records: bytes | dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    if isinstance(records, dict):
        text = b""
        for key, value in records.items():
            length = len(key) + len(value) + 3
            while len(b"%d" % (length + len(b"%d" % length))) != len(b"%d" % length):
                length += 1
            total = len(key) + len(value) + 3
            total += len(b"%d" % (total + len(b"%d" % total)))
            text += b"%d %s=%s\n" % (total, key, value)
        records = text
    return entry(b"PaxHeaders.0/x", records, kind=kind)


def link(name: bytes, target: bytes) -> bytes:
    return block(name, kind=b"2", link=target)


def hard(name: bytes, target: bytes) -> bytes:
    return block(name, kind=b"1", link=target)


END = bytes(1024)
DEEP = b"/".join([b"d" * 200] * 25)


def base256(value: int, length: int = 12) -> bytes:
    return bytes([0x80]) + value.to_bytes(length - 1, "big")


CORPUS: dict[str, bytes] = {
    "dotdot": entry(b"../escaped"),
    "dotdot in the middle": entry(b"a/../../escaped"),
    "dotdot at the end": entry(b"a/.."),
    "only dotdot": entry(b".."),
    "dotdot directory": block(b"../escaped", kind=b"5"),
    "dotdot after slash": entry(b"/../escaped"),
    "dotdot after many slashes": entry(b"////..//..//escaped"),
    "dotdot with dots": entry(b"./../escaped"),
    "dotdot in prefix": entry(b"escaped", prefix=b"../.."),
    "dotdot by pax": pax({b"path": b"../../escaped"}) + entry(b"fine"),
    "dotdot by gnu long name": entry(b"././@LongLink", b"../../escaped\0", kind=b"L") + entry(b"fine"),
    "dotdot by global pax": pax({b"path": b"../escaped"}, b"g") + entry(b"fine"),
    "absolute": entry(b"/etc/escaped"),
    "absolute directory": block(b"/etc/escaped", kind=b"5"),
    "absolute by pax": pax({b"path": b"/tmp/escaped"}) + entry(b"fine"),
    "absolute with double slash": entry(b"//tmp//escaped"),
    "the root itself as a file": entry(b"/"),
    "dot as a file": entry(b"."),
    "empty name": entry(b""),
    "root as a directory without rights": block(b"/", kind=b"5", mode=b"0000000\0"),
    "symlink out, then through it": link(b"l", b"..") + entry(b"l/escaped"),
    "symlink to root, then through it": link(b"l", b"/") + entry(b"l/tmp/escaped"),
    "symlink to outside file, then over it": link(b"l", b"../outside/file") + entry(b"l", b"changed"),
    "symlink loop": link(b"a", b"b") + link(b"b", b"a") + entry(b"a/x"),
    "symlink to itself": link(b"a", b"a") + entry(b"a"),
    "symlink chain": link(b"a", b"b") + link(b"b", b"../outside") + entry(b"a/escaped"),
    "symlink dir swapped for file": block(b"d", kind=b"5") + link(b"d", b"../outside") + entry(b"d/escaped"),
    "symlink named dotdot": link(b"..", b"x"),
    "symlink with an absolute name": link(b"/etc/escaped", b"/etc/passwd"),
    "symlink with an empty target": link(b"l", b""),
    "symlink target by pax": pax({b"linkpath": b"../outside"}) + link(b"l", b"x") + entry(b"l/escaped"),
    "symlink target by gnu long link": entry(b"x", b"../outside\0", kind=b"K") + link(b"l", b"x") + entry(b"l/escaped"),
    "symlink over an existing directory": entry(b"d/f") + link(b"d", b"../outside") + entry(b"d/escaped"),
    "hard link out": hard(b"h", b"../outside/file") + entry(b"h", b"changed"),
    "hard link absolute": hard(b"h", b"/etc/passwd") + entry(b"h", b"changed"),
    "hard link to a symlink": link(b"l", b"../outside/file") + hard(b"h", b"l") + entry(b"h", b"changed"),
    "hard link to a deeper symlink": block(b"d", kind=b"5")
    + link(b"d/l", b"../..")
    + hard(b"h", b"d/l")
    + entry(b"h/escaped"),
    "hard link to a file inside": entry(b"f") + hard(b"h", b"f") + entry(b"h", b"changed"),
    "hard link with data": block(b"h", kind=b"1", link=b"f", size=3) + entry(b"ok"),
    "long symlink path (PATH_MAX)": b"".join(
        entry(b"x", b"/".join([b"d" * 200] * n) + b"\0", kind=b"L") + link(b"x", b"../" * 40) for n in (1, 10, 25)
    )
    + entry(b"x", DEEP + b"/escaped\0", kind=b"L")
    + entry(b"f"),
    "name of 5000 bytes": entry(b"x", b"a" * 5000 + b"\0", kind=b"L") + entry(b"f"),
    "component of 300 bytes": entry(b"x", b"a" * 300 + b"\0", kind=b"L") + entry(b"f"),
    "500 components": entry(b"x", b"a/" * 500 + b"f\0", kind=b"L") + entry(b"f"),
    "character device": block(b"dev", kind=b"3"),
    "block device": block(b"dev", kind=b"4"),
    "fifo": block(b"fifo", kind=b"6") + entry(b"fifo"),
    "fifo as a directory": block(b"fifo", kind=b"6") + entry(b"fifo/x"),
    "contiguous file": entry(b"c", kind=b"7"),
    "setuid file": entry(b"s", mode=b"0004755\0"),
    "setgid file": entry(b"s", mode=b"0002755\0"),
    "sticky and world writable": entry(b"s", mode=b"0001777\0"),
    "mode out of range": entry(b"s", mode=b"7777777\0"),
    "setuid directory": block(b"d", kind=b"5", mode=b"0006777\0"),
    "directory without rights, then a file in it": block(b"d", kind=b"5", mode=b"0000000\0") + entry(b"d/f"),
    "duplicate": entry(b"f", b"one") + entry(b"f", b"two"),
    "duplicate with other spelling": entry(b"f", b"one") + entry(b"/./f", b"two"),
    "case clash": entry(b"File") + entry(b"fILE"),
    "file, then directory": entry(b"f") + block(b"f", kind=b"5"),
    "directory, then file": block(b"f", kind=b"5") + entry(b"f"),
    "file, then a file below it": entry(b"f") + entry(b"f/g"),
    "trailing slash on a file": entry(b"f/"),
    "NUL in a pax name": pax({b"path": b"a\0b"}) + entry(b"f"),
    "NUL in pax link": pax({b"linkpath": b"a\0b"}) + link(b"l", b"x"),
    "newline in a name": entry(b"a\nb"),
    "control characters in a name": entry(b"\x01\x1b[2J\x7f"),
    "not UTF-8": entry(b"\xff\xfe\x80"),
    "backslashes": entry(b"..\\..\\escaped"),
    "drive letter": entry(b"C:\\escaped"),
    "tilde": entry(b"~/escaped"),
    "dash": entry(b"-rf"),
    "shell characters": entry(b"$(touch escaped)"),
    "unicode dots": entry("․․/escaped".encode()),
    "spaces only": entry(b"   "),
    "pax bomb, announced": block(b"p", kind=b"x", size=base256(1 << 40)),
    "pax bomb, present": block(b"p", kind=b"x", size=2 << 20) + b"9 a=bcde\n" * ((2 << 20) // 9 + 1),
    "pax value too long": pax({b"path": b"a" * 70_000}) + entry(b"f"),
    "pax length zero": pax(b"0 path=x\n") + entry(b"f"),
    "pax length too small": pax(b"3 path=x\n") + entry(b"f"),
    "pax length too large": pax(b"99999 path=x\n") + entry(b"f"),
    "pax length of 1000 digits": pax(b"9" * 1000 + b" path=x\n") + entry(b"f"),
    "pax without equals": pax(b"7 path\n") + entry(b"f"),
    "pax without newline": pax(b"10 path=xy") + entry(b"f"),
    "pax empty key": pax(b"5 =x\n") + entry(b"f"),
    "pax negative size": pax({b"size": b"-1"}) + entry(b"f"),
    "pax size not a number": pax({b"size": b"lots"}) + entry(b"f"),
    "pax size huge": pax({b"size": b"9" * 30}) + entry(b"f"),
    "pax time not a number": pax({b"mtime": b"nan"}) + entry(b"f"),
    "pax time infinite": pax({b"mtime": b"1" * 400}) + entry(b"f"),
    "pax after the last member": pax({b"path": b"x"}) + END,
    "a hundred extended headers": pax({b"path": b"x"}) * 100 + entry(b"f"),
    "sparse by pax": pax({b"GNU.sparse.map": b"0,1"}) + entry(b"f"),
    "sparse by gnu": block(b"s", kind=b"S", size=512) + bytes(512),
    "multi volume": block(b"m", kind=b"M"),
    "unknown type": block(b"u", kind=b"Z"),
    "gnu long name without member": entry(b"x", b"abc\0", kind=b"L"),
    "gnu long name announced as huge": block(b"x", kind=b"L", size=base256(1 << 50)),
    "negative size": block(b"n", size=b"\xff" * 12),
    "huge size": block(b"n", size=base256(1 << 80)),
    "size of 8 exabytes": block(b"n", size=base256((1 << 63) - 1)),
    "size with a minus sign": block(b"n", size=b"-0000000001\0"),
    "size not octal": block(b"n", size=b"99999999999\0"),
    "size larger than the data": block(b"n", size=4096) + b"short",
    "bad checksum": block(b"n", checksum=b"000000\0 "),
    "checksum not a number": block(b"n", checksum=b"zzzzzz\0 "),
    "truncated header": block(b"n")[:300],
    "random bytes": bytes(range(256)) * 8,
    "zeros only": bytes(4096),
    "empty": b"",
    "data after the end": END + b"hidden" + bytes(506),
    "member after the end": END + entry(b"hidden"),
    "member after one zero block": bytes(512) + entry(b"hidden"),
    "old format without magic": entry(b"v7", magic=b""),
    "gnu magic": entry(b"gnu", magic=b"ustar  \0"),
    "directory with a size": block(b"d", kind=b"5", size=5000) + entry(b"d/f"),
    "time before 1970": entry(b"t", mtime=b"\xff" * 12),
    "time far away": entry(b"t", mtime=base256(1 << 60)),
    "uid out of range": entry(b"t", uid=base256(1 << 50, 8)),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A destination beside things that must not change."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"untouched")
    return tmp_path / "destination"


def snapshot(top: Path, without: Path) -> dict[str, object]:
    out: dict[str, object] = {}
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if Path(directory, name) != without]
        for name in [*names, *files]:
            path = Path(directory, name)
            found = path.lstat()
            out[str(path)] = (found.st_mode, found.st_size, path.read_bytes() if stat.S_ISREG(found.st_mode) else None)
    return out


def extract(data: bytes, target: Path) -> None:
    """What a restore does with every kind of member, and more: links are made where the archive wants them."""
    with Destination(str(target)) as root:
        archive = untar.Archive(BytesReader(data))
        for member in archive:
            parts = components(member.name)
            if member.kind == untar.DIRECTORY:
                root.make_dir(parts, member.mode)
            elif member.kind == untar.FILE:
                fd = root.create(parts, member.mode)
                try:
                    while piece := archive.read():
                        write_all(fd, piece, show(parts))
                finally:
                    root.close_file(fd)
            elif member.kind == untar.SYMLINK and parts:
                # No engine does this; it must be harmless all the same.
                root.symlink(parts, os.fsdecode(member.link) or "x")
        root.finish()


def attempt(data: bytes, target: Path) -> BaseException | None:
    try:
        extract(data, target)
    except (WalgError, OSError) as error:
        return error
    return None


@pytest.mark.parametrize("name", CORPUS)
def test_nothing_leaves_the_destination(name: str, place: Path) -> None:
    before = snapshot(place.parent, place)
    tmp, etc = set(os.listdir("/tmp")), set(os.listdir("/etc"))
    attempt(CORPUS[name] + END, place)
    assert snapshot(place.parent, place) == before
    assert "escaped" not in set(os.listdir("/etc")) - etc
    assert "escaped" not in set(os.listdir("/tmp")) - tmp
    for directory, _, files in os.walk(place):
        for each in files:
            mode = os.lstat(os.path.join(directory, each)).st_mode
            assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX)
            assert stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 80


MUST_FAIL = [
    name
    for name in CORPUS
    if name.startswith(("dotdot", "only dotdot", "pax length", "pax bomb", "sparse", "size ", "truncated", "bad check"))
    or "through it" in name
    or "after the end" in name
    or name in ("negative size", "huge size", "random bytes", "NUL in a pax name", "unknown type")
]


@pytest.mark.parametrize("name", MUST_FAIL)
def test_lies_are_refused_with_a_typed_error(name: str, place: Path) -> None:
    error = attempt(CORPUS[name], place)
    assert isinstance(error, WalgError), error


def test_a_hard_linked_file_is_never_written_through(place: Path) -> None:
    place.mkdir()
    os.link(place.parent / "outside" / "file", place / "f")
    assert attempt(entry(b"f", b"changed") + END, place) is None
    assert (place / "f").read_bytes() == b"changed"
    assert (place.parent / "outside" / "file").read_bytes() == b"untouched"
    os.unlink(place / "f")
    os.link(place.parent / "outside" / "file", place / "f")
    with Destination(str(place)) as root, pytest.raises(WalgError, match="single name"):
        root.open_file((b"f",))


def test_a_directory_swapped_for_a_link_while_restoring_is_not_followed(place: Path) -> None:
    with Destination(str(place)) as root:
        root.make_dir((b"d", b"e"), 0o700)
    os.rename(place / "d", place.parent / "moved")
    os.symlink(place.parent / "outside", place / "d")
    with Destination(str(place)) as root, pytest.raises(WalgError, match="not followed"):
        root.create((b"d", b"file"), 0o600)
    assert (place.parent / "outside" / "file").read_bytes() == b"untouched"


names = st.lists(
    st.sampled_from([b"..", b".", b"", b"a", b"b", b"d" * 99, b"\xff", b"x\ny", b"outside", b"file"]), max_size=5
).map(b"/".join)
members = st.one_of(
    st.builds(entry, names, st.binary(max_size=700)),
    st.builds(lambda n, k, t: block(n, kind=k, link=t), names, st.sampled_from([b"1", b"2", b"3", b"5", b"6"]), names),
    st.builds(lambda p: pax({b"path": p or b"a"}), names),
    st.builds(lambda p, k: entry(b"x", p + b"\0", kind=k), names, st.sampled_from([b"L", b"K"])),
    st.builds(lambda d: pax(d), st.binary(max_size=60)),
    st.builds(lambda n, s: block(n, size=s), names, st.binary(min_size=12, max_size=12)),
    st.binary(max_size=1024),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(members, max_size=8), cut=st.integers(0, 3000))
def test_generated_archives_stay_inside(
    pieces: list[bytes], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.getbasetemp() / "generated"
    top.mkdir(exist_ok=True)
    (top / "outside").mkdir(exist_ok=True)
    (top / "outside" / "file").write_bytes(b"untouched")
    place = top / "destination"
    before = snapshot(top, place)
    data = b"".join(pieces) + END
    attempt(data[: len(data) - cut] if cut % 3 == 0 else data, place)
    assert snapshot(top, place) == before
    _remove(place)


def _remove(top: Path) -> None:
    import shutil

    for directory, _, _ in os.walk(top):
        os.chmod(directory, 0o700)
    shutil.rmtree(top, ignore_errors=True)


FORMATS: dict[str, Callable[[], int]] = {
    "ustar": lambda: tarfile.USTAR_FORMAT,
    "pax": lambda: tarfile.PAX_FORMAT,
    "gnu": lambda: tarfile.GNU_FORMAT,
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("ending", ["whole", "no trailer", "no padding", "zeros"])
def test_every_dialect_and_every_ending_is_read(form: str, ending: str, place: Path) -> None:
    contents = {"a": b"one", "dir/" + "n" * 90: b"x" * 1000, "base/1/2": bytes(8192), "last": b"12345"}
    if form != "ustar":
        contents["long/" + "/".join(["c" * 60] * 5)] = b"deep"
        contents["Größe/ü"] = b"names"
    contents["zz"] = b"end"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[form]()) as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o640
            tar.addfile(info, io.BytesIO(data))
        length = buffer.tell()
    data = buffer.getvalue()[:length]
    data = {"whole": data + END, "no trailer": data, "no padding": data[: -(512 - 3)], "zeros": data + END * 9}[ending]
    extract(data, place)
    for name, expected in contents.items():
        assert (place / name).read_bytes() == expected
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o640


def test_every_truncation_is_an_error_or_a_shorter_archive(place: Path) -> None:
    data = entry(b"a", b"y" * 600) + entry(b"b", b"z" * 10)
    for cut in range(1, len(data)):
        seen = []
        try:
            archive = untar.Archive(BytesReader(data[:cut]))
            for member in archive:
                size = 0
                while piece := archive.read():
                    size += len(piece)
                seen.append((member.name, size))
        except WalgError:
            continue
        assert seen in ([(b"a", 600)], [(b"a", 600), (b"b", 10)])


def test_numbers_of_both_kinds() -> None:
    big = next(iter(untar.Archive(BytesReader(block(b"n", size=base256(9 << 30))))))
    assert big.size == 9 << 30
    old = next(iter(untar.Archive(BytesReader(block(b"n", mtime=struct.pack(">4xq", -5).rjust(12, b"\xff"))))))
    assert old.kind == untar.FILE


def bombs() -> Iterator[bytes]:
    yield from (bytes(1 << 20) for _ in range(64))


def test_a_long_run_of_zeros_is_read_in_bounded_memory() -> None:
    from walg_core.pipeline.reader import IterReader

    assert list(untar.Archive(IterReader(bombs()))) == []
