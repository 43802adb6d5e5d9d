"""Tars that are filled while their files change, parts that do not arrive, and the rules of names and places."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.errors import EngineError, StorageError
from walg_core.pipeline import tar
from walg_core.storage.memory import MemoryStorage
from walg_pg.backup import archive_wait, finish, parts
from walg_pg.backup.composers import Dealer, apart, by_database, by_rating
from walg_pg.backup.contents import DataFiles
from walg_pg.backup.packing import Packer
from walg_pg.backup.walk import EXCLUDED, Found, Status, Walk
from walg_pg.sentinel import FileEntry

from walg_pg import names

NAME = "base_000000010000000000000003"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for inner in ("base/5", "global", "pg_tblspc", "pg_wal", "pg_replslot/slot"):
        (tmp_path / "data" / inner).mkdir(parents=True)
    return tmp_path / "data"


def stream_of(entries: object, threshold: int = 1 << 30, files: DataFiles | None = None) -> parts.TarStream:
    ledger, abort = parts.Ledger(), parts.Abort()
    return parts.TarStream(parts.Shared(entries).take, Packer(files or DataFiles()).pack, ledger, abort, threshold)


def members(data: bytes) -> dict[str, bytes]:
    found, at = {}, 0
    while any(data[at : at + 512]):
        size = int(data[at + 124 : at + 135], 8)
        found[data[at : at + 100].rstrip(b"\0").decode()] = data[at + 512 : at + 512 + size]
        at += 512 + size + -size % 512
    assert data[at:] == tar.TRAILER
    return found


def read_in(stream: parts.TarStream, size: int) -> bytes:
    pieces = []
    while piece := stream.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [100, 8192, 1 << 20])
@pytest.mark.parametrize("direct", [0, 32])
def test_files_that_change_during_the_copy(directory: Path, size: int, direct: int) -> None:
    for name in ("grows", "shrinks", "stays", "vanishes"):
        (directory / "base/5" / name).write_bytes(b"0123456789" * 1000)
    entries = list(Walk(str(directory)))
    (directory / "base/5/grows").write_bytes(b"abcdefghij" * 2000)
    (directory / "base/5/shrinks").write_bytes(b"01234")
    (directory / "base/5/vanishes").unlink()
    stream = stream_of(entries, files=DataFiles(None, direct))
    found = members(read_in(stream, size))
    assert found["/base/5/grows"] == b"abcdefghij" * 1000
    assert found["/base/5/shrinks"] == b"01234" + bytes(9995)
    assert found["/base/5/stays"] == b"0123456789" * 1000
    assert "/base/5/vanishes" not in found
    assert "/base/5/vanishes" in stream.names
    assert stream.data == 30000


def test_walk_order_and_exclusions(directory: Path, tmp_path: Path) -> None:
    space = tmp_path / "space"
    (space / "PG_18_1/5").mkdir(parents=True)
    (space / "PG_18_1/5/16400").write_bytes(b"x")
    (directory / "pg_tblspc/16399").symlink_to(f"{space}/")
    (directory / "pg_tblspc/16398").mkdir()
    (directory / "pg_tblspc/16398/inside").write_text("")
    for name in ("PG_VERSION", "global/pg_control", "postmaster.pid", "pg_wal/000", "pg_replslot/slot/state", "zz"):
        (directory / name).write_text("text")
    (directory / "link").symlink_to("elsewhere")
    walk = Walk(str(directory))
    found = list(walk)
    assert [each.name for each in found] == [
        "/",
        "/PG_VERSION",
        "/base",
        "/base/5",
        "/global",
        "/link",
        "/pg_replslot",
        "/pg_tblspc/16399/PG_18_1",
        "/pg_tblspc/16399/PG_18_1/5",
        "/pg_tblspc/16399/PG_18_1/5/16400",
        "/pg_tblspc",
        "/pg_tblspc/16398",
        "/pg_tblspc/16398/inside",
        "/pg_wal",
        "/zz",
    ]
    assert walk.tablespaces == {"16399": str(space)}
    assert walk.control is not None
    assert walk.control.name == "/global/pg_control"
    assert next(each for each in found if each.name == "/link").link == "elsewhere"
    relation = next(each for each in found if each.name.endswith("/16400")).relation
    assert relation == (16399, 5, 16400)
    assert {"pg_wal", "standby.signal"} <= EXCLUDED


def test_a_linked_wal_directory_is_stored_as_an_empty_one(directory: Path, tmp_path: Path) -> None:
    (directory / "pg_wal").rmdir()
    (tmp_path / "wal").mkdir(mode=0o700)
    (directory / "pg_wal").symlink_to(tmp_path / "wal")
    entry = next(each for each in Walk(str(directory)) if each.name == "/pg_wal")
    assert entry.type == tar.DIRECTORY
    data = read_in(stream_of([entry]), 1 << 20)
    assert data[156:157] == b"5"
    assert data[100:108] == b"0000700\0"


def test_relations_do_not_depend_on_the_path_of_the_directory(tmp_path: Path) -> None:
    root = tmp_path / "base" / "pg_tblspc" / "pg_xact"
    (root / "base/1").mkdir(parents=True)
    (root / "global").mkdir()
    (root / "base/1/1259").write_bytes(bytes(8192))
    (root / "global/1262").write_bytes(bytes(8192))
    relations = {each.name: each.relation for each in Walk(str(root)) if each.is_file}
    assert relations == {"/base/1/1259": (1663, 1, 1259), "/global/1262": None}


def test_a_part_ends_after_the_file_that_exceeds_the_threshold(directory: Path) -> None:
    for number in range(10):
        (directory / f"base/5/{number}").write_bytes(bytes(1000))
    shared = parts.Shared(Walk(str(directory)))
    ledger, abort, packer = parts.Ledger(), parts.Abort(), Packer(DataFiles())
    sizes = []
    while True:
        stream = parts.TarStream(shared.take, packer.pack, ledger, abort, 2000)
        if not stream.start():
            break
        read_in(stream, 777)
        sizes.append(stream.data)
    # 2000 bytes do not exceed 2000: the third file does.
    assert sizes == [3000, 3000, 3000, 1000]


def test_a_failure_elsewhere_stops_a_stream(directory: Path) -> None:
    ledger, abort = parts.Ledger(), parts.Abort()
    stream = parts.TarStream(parts.Shared(Walk(str(directory))).take, Packer(DataFiles()).pack, ledger, abort, 1 << 30)
    assert stream.read(10)
    abort.fail(EngineError("the server is gone"))
    with pytest.raises(parts.Stop):
        stream.read(10)


def entries_of(*named: tuple[str, int], place: str = "/") -> list[Found]:
    """Entries with the given sizes (below 0: directories); their times and owners are those of `place`."""
    blank = os.stat(place)
    found = []
    for name, size in named:
        status = Status(blank.st_mode, blank.st_uid, blank.st_gid, 0, max(size, 0), blank.st_mtime_ns)
        found.append(Found(name, name, status, tar.DIRECTORY if size < 0 else tar.FILE))
    return found


def test_composers_deal_every_entry_once() -> None:
    entries = entries_of(("/", -1), ("/base", -1), ("/base/1/1", 5), ("/base/2/1", 7), ("/base/1/2", 9), ("/x", 3))
    databases = [[each.name for each in group] for group in by_database(entries)]
    assert databases == [["/", "/base"], ["/base/1/1", "/base/1/2"], ["/base/2/1"], ["/x"]]
    headers, files = apart(entries)
    files.rate(0, 10)
    files.rate(1, 2)
    rated = [[each.name for each in group] for group in by_rating(headers, files, 10)]
    assert rated == [["/", "/base"], ["/base/1/2", "/x"], ["/base/2/1", "/base/1/1"]]


def test_several_workers_share_groups() -> None:
    groups = [entries_of(*((f"/{group}/{number}", -1) for number in range(5))) for group in range(3)]

    def make(take: object) -> parts.TarStream:
        return parts.TarStream(take, Packer(DataFiles()).pack, parts.Ledger(), parts.Abort(), 1)  # type: ignore[arg-type]

    dealer = Dealer(groups, make)

    def packed(streams: Iterator[parts.TarStream]) -> Iterator[list[str]]:
        for stream in streams:
            if stream.start():
                read_in(stream, 512)
                yield stream.names

    names_ = [name for group in packed(dealer.streams()) for name in group]
    assert names_ == [f"/{group}/{number}" for group in range(3) for number in range(5)]


def test_the_sentinel_is_not_written_over_missing_or_foreign_parts() -> None:
    storage = MemoryStorage()
    prefix = names.parts_prefix(NAME)
    storage.put_bytes(prefix + "part_001.tar.lz4", b"12345")
    finish.check_parts(storage, NAME, {prefix + "part_001.tar.lz4": 5})
    for expected in (
        {prefix + "part_001.tar.lz4": 6},
        {prefix + "part_001.tar.lz4": 5, prefix + "part_002.tar.lz4": 1},
        {},
    ):
        with pytest.raises(StorageError, match="part_00"):
            finish.check_parts(storage, NAME, expected)


def test_leftovers_go_and_existing_backups_stay() -> None:
    storage = MemoryStorage()
    storage.put_bytes(names.parts_prefix(NAME) + "part_007.tar.lz4", b"old")
    finish.prepare_place(storage, NAME)
    assert list(storage.list()) == []
    storage.put_bytes(names.sentinel_key(NAME), b"{}")
    with pytest.raises(EngineError, match="exists already"):
        finish.prepare_place(storage, NAME)


def test_waiting_for_the_archive_reads_the_servers_own_signs(tmp_path: Path) -> None:
    status = tmp_path / "archive_status"
    status.mkdir()
    wal = str(tmp_path)
    history = archive_wait.backup_history_name(1, 0x3000028, 16 << 20)
    assert history == "000000010000000000000003.00000028.backup"
    assert not archive_wait.is_busy(wal, history)
    (tmp_path / history).write_text("")
    assert archive_wait.is_busy(wal, history)
    (status / f"{history}.ready").write_text("")
    calls = []

    def watch() -> None:
        calls.append(1)
        if len(calls) == 3:
            (status / f"{history}.ready").rename(status / f"{history}.done")

    archive_wait.wait_archived(wal, [history], 10, watch)
    assert len(calls) == 3
    (status / f"{history}.done").rename(status / f"{history}.ready")
    with pytest.raises(EngineError, match="not archived within"):
        archive_wait.wait_archived(wal, [history], 0.05, lambda: None)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (NAME, True),
        (NAME + "_D_000000010000000000000001", True),
        (NAME + "_00000028", True),
        (NAME.lower(), True),
        (NAME[:-1], False),
        (NAME + "_D_00000001", False),
        ("base_00000001000000000000000g", False),
        ("basebackups", False),
    ],
)
def test_names(text: str, good: bool) -> None:
    assert names.is_backup_name(text) is good


def test_names_are_derived_from_keys() -> None:
    key = names.sentinel_key(NAME + "_D_000000010000000000000001")
    assert names.name_from_key(key) == NAME + "_D_000000010000000000000001"
    assert names.wal_file_name(key) == NAME[5:]
    assert names.delta_name("00000001000000000000000A", names.name_from_key(key)) == (
        "base_00000001000000000000000A_D_" + NAME[5:]
    )
    assert names.wal_file_name("x.history") == "Z" * 24
    assert names.timeline_of(NAME) == 1
    with pytest.raises(names.NotABackupName):
        names.own_segment_of("history")


def test_records_of_entries_without_data() -> None:
    ledger = parts.Ledger()
    ledger.record("/", FileEntry(mtime="2026-01-01T00:00:00Z"))
    assert b"".join(ledger.listed({})) == (
        b'{"Files":{"/":{"IsIncremented":false,"IsSkipped":false,"MTime":"2026-01-01T00:00:00Z","UpdatesCount":0}}}'
    )
    silent = parts.Ledger(keep_files=False)
    silent.record("/", FileEntry())
    silent.stored("part_001.tar", ["/"], 1, 2)
    assert (b"".join(silent.listed({})), silent.uncompressed, silent.compressed) == (b"{}", 1, 2)
