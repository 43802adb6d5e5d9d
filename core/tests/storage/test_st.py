"""`wal-g st` from its command line, and what it moves."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.errors import StorageError, WalgError
from walg_core.storage.api import ObjectInfo
from walg_core.storage.memory import MemoryStorage
from walg_core.storage.tools import glob, table, transfer
from walg_core.storage.tools.copying import copy_objects
from walg_core.storage.tools.objects import below, check_read, check_write, remove
from walg_core.testing import FaultyStorage

QUICK = transfer.Options(appearance_interval=0.01)


class Run:
    def __init__(self, home: Path) -> None:
        self.home = home
        names = ("first", "second")
        for name in names:
            (home / name).mkdir()
        self.file = home / "walg.json"
        settings = {
            "WALG_FILE_PREFIX": str(home / "first"),
            "WALG_FAILOVER_STORAGES": {"Second": {"WALG_FILE_PREFIX": str(home / "second")}},
        }
        self.file.write_text(json.dumps(settings))

    def __call__(self, *arguments: str, stdin: bytes = b"", prefix: str = "") -> "subprocess.CompletedProcess[str]":
        environment = {
            "WALG_STORAGE_PREFIX": prefix,
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TZ": "UTC",
            "WALG_CONFIG_PATH": str(self.file),
        }
        command = [sys.executable, "-c", "from walg_core.cli.main import main; main()", "st", *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)
        return subprocess.CompletedProcess(
            command, result.returncode, result.stdout.decode("utf-8", "replace"), result.stderr.decode()
        )


@pytest.fixture
def wal_g(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_the_life_of_an_object(wal_g: Run, tmp_path: Path) -> None:
    source = tmp_path / "notes.txt"
    source.write_bytes(b"some text\n" * 1000)
    assert wal_g("put", str(source), "dir/notes").returncode == 0
    again = wal_g("put", str(source), "dir/notes")
    assert again.returncode == 1
    assert "check file overwrite: object dir/notes.lz4 already exists. To overwrite it, add the -f flag" in again.stderr
    assert wal_g("put", "-f", str(source), "dir/notes").returncode == 0
    assert wal_g("cat", "dir/notes.lz4", "--decompress").stdout == "some text\n" * 1000
    assert wal_g("cat", "dir/notes.lz4").stdout != "some text\n" * 1000
    target = tmp_path / "out"
    assert wal_g("get", "dir/notes.lz4", str(target)).returncode == 0
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o640
    refused = wal_g("get", "dir/notes.lz4", str(target))
    assert refused.returncode == 1
    assert "file exists" in refused.stderr
    assert "object '" in wal_g("stat", "dir/nothing").stderr
    assert wal_g("rm", "dir").returncode == 0
    gone = wal_g("rm", "dir")
    assert gone.returncode == 1
    assert 'object or folder "dir" does not exist' in gone.stderr


def test_put_from_standard_input(wal_g: Run) -> None:
    assert wal_g("put", "-s", "dump", "--no-compress", stdin=b"streamed").returncode == 0
    assert wal_g("cat", "dump").stdout == "streamed"


def test_get_of_a_damaged_object_leaves_nothing(wal_g: Run, tmp_path: Path) -> None:
    (tmp_path / "first" / "bad.lz4").write_bytes(b"\x04\x22\x4d\x18 this is no frame")
    result = wal_g("get", "bad.lz4", str(tmp_path / "out"))
    assert result.returncode == 1
    assert not (tmp_path / "out").exists()
    assert not [name for name in os.listdir(tmp_path) if ".tmp." in name]


def test_ls_is_the_originals_table(wal_g: Run, tmp_path: Path) -> None:
    for name, size in (("base/b1/part", 5), ("base/sent.json", 6), ("top", 3)):
        path = tmp_path / "first" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, ns=(0, 1767323045123456000))
    assert wal_g("ls").stdout == (
        "type size last modified                        name\n"
        "dir  0    0001-01-01 00:00:00 +0000 UTC        base/  \n"
        "obj  3    2026-01-02 03:04:05.123456 +0000 UTC top    \n"
    )
    assert wal_g("ls", "-r", "base/").stdout == (
        "type size last modified                        name\n"
        "obj  6    2026-01-02 03:04:05.123456 +0000 UTC sent.json  \n"
        "obj  5    2026-01-02 03:04:05.123456 +0000 UTC /b1/part   \n"
    )
    assert wal_g("ls", ".").stdout == wal_g("ls").stdout
    assert wal_g("ls", "./base//").stdout == wal_g("ls", "base").stdout
    assert wal_g("ls", "../base").returncode == 1
    assert wal_g("ls", "-g", "ba*").stdout.startswith("base:\ntype size")
    assert wal_g("ls", "missing").stdout == "type size last modified name\n"
    assert not (tmp_path / "first" / "missing").exists()


def test_ls_below_a_storage_prefix(wal_g: Run, tmp_path: Path) -> None:
    for name in ("pre/in/sub/r", "pre/in/q", "pre/p1", "top"):
        path = tmp_path / "first" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, ns=(0, 1767323045000000000))
    listed = wal_g("ls", prefix="pre").stdout
    assert listed == (
        "type size last modified                 name\n"
        "dir  0    0001-01-01 00:00:00 +0000 UTC /in/  \n"
        "obj  1    2026-01-02 03:04:05 +0000 UTC p1    \n"
    )
    assert wal_g("ls", "--all-versions", prefix="/pre/").stdout == listed
    assert wal_g("ls", "/", prefix="/pre/").stdout == listed
    tree = wal_g("ls", "-r", prefix="pre").stdout
    assert tree == (
        "type size last modified                 name\n"
        "obj  1    2026-01-02 03:04:05 +0000 UTC p1         \n"
        "obj  1    2026-01-02 03:04:05 +0000 UTC /in/q      \n"
        "obj  1    2026-01-02 03:04:05 +0000 UTC /in/sub/r  \n"
    )
    assert wal_g("ls", "-r", ".", prefix="pre").stdout == tree
    assert wal_g("ls", "-r", "--all-versions", prefix="pre").stdout == tree


def test_ls_of_an_object_is_an_error(wal_g: Run, tmp_path: Path) -> None:
    (tmp_path / "first" / "object").write_bytes(b"x")
    done = wal_g("ls", "-r", "object")
    assert (done.returncode, done.stdout) == (1, "")
    assert "object is an object, not a folder" in done.stderr


def test_targets(wal_g: Run, tmp_path: Path) -> None:
    (tmp_path / "second" / "only-here").write_bytes(b"x")
    assert "only-here" in wal_g("ls", "-t", "second").stdout
    assert "only-here" in wal_g("-t", "Second", "ls").stdout
    everywhere = wal_g("stat", "only-here", "-t", "all")
    assert everywhere.returncode == 0
    assert "storage default" in everywhere.stderr
    nowhere = wal_g("stat", "nothing", "-t", "all")
    assert nowhere.returncode == 1
    assert "all storages failed" in nowhere.stderr
    unknown = wal_g("ls", "-t", "third")
    assert 'storage with name "third" is not found, available storages: [default Second]' in unknown.stderr


def test_checks(wal_g: Run) -> None:
    assert "Write check OK" in wal_g("check", "write").stderr
    assert "Read check OK" in wal_g("check", "read").stderr
    assert "files are missing: a, b" in wal_g("check", "read", "a", "b").stderr


def test_folders_pass_the_read_check_where_they_exist(wal_g: Run, tmp_path: Path) -> None:
    (tmp_path / "first" / "folder" / "empty").mkdir(parents=True)
    assert wal_g("check", "read", "folder", "folder/", "folder/empty", ".", "/").returncode == 0
    assert "files are missing: other/empty" in wal_g("check", "read", "folder", "other/empty").stderr
    assert wal_g("check", "read", "..").returncode == 1
    storage = archive("one")
    with pytest.raises(WalgError, match="files are missing: base"):
        check_read(storage, ["base"])


@pytest.mark.parametrize("arguments", [("put",), ("put", "-s"), ("put", "a", "b", "c"), ("put", "-s", "a", "b", "c")])
def test_put_with_the_wrong_number_of_names_is_a_usage_error(wal_g: Run, arguments: tuple[str, ...]) -> None:
    done = wal_g(*arguments)
    assert done.returncode == 1
    assert done.stdout
    assert done.stderr.startswith("Error: ")


@pytest.mark.parametrize("root", [".", "./", "/"])
def test_rm_knows_the_root_by_all_its_names(wal_g: Run, tmp_path: Path, root: str) -> None:
    (tmp_path / "first" / "a").mkdir()
    (tmp_path / "first" / "a" / "x").write_bytes(b"x")
    (tmp_path / "first" / "top").write_bytes(b"x")
    assert wal_g("rm", "./top/").returncode == 1
    assert wal_g("rm", "./top").returncode == 0
    assert wal_g("rm", root).returncode == 0
    assert os.listdir(tmp_path / "first") == []


def test_conformance_command(wal_g: Run, tmp_path: Path) -> None:
    result = wal_g("conformance", "--only", "range", "--many", "10")
    assert result.returncode == 0, result.stderr
    assert "0 failed" in result.stdout
    assert os.listdir(tmp_path / "first") == []


def test_sweep(wal_g: Run, tmp_path: Path) -> None:
    from walg_core.io.atomic import temporary_name

    left = tmp_path / "first" / temporary_name("object")
    left.write_bytes(b"half")
    os.utime(left, (0, time.time() - 7200))
    assert wal_g("sweep").stdout == ""
    assert left.name in wal_g("sweep", "--older-than", "1h").stdout
    assert left.exists()
    assert wal_g("sweep", "--older-than", "1h", "--confirm").returncode == 0
    assert not left.exists()


def test_transfer_files(wal_g: Run, tmp_path: Path) -> None:
    for name in ("w/1", "w/2"):
        (tmp_path / "second" / "w").mkdir(exist_ok=True)
        (tmp_path / "second" / name).write_bytes(name.encode())
    result = wal_g("transfer", "files", "w", "-s", "second")
    assert result.returncode == 0
    assert "Files will be transferred: 2" in result.stderr
    assert (tmp_path / "first" / "w" / "1").read_bytes() == b"w/1"
    assert not (tmp_path / "second" / "w").exists()
    refused = wal_g("transfer", "files", "w", "-s", "second", "-t", "second")
    assert "invalid flags: source and target storages must be different" in refused.stderr


def test_copy_between_configurations(wal_g: Run, tmp_path: Path) -> None:
    (tmp_path / "first" / "a").write_bytes(b"1")
    (tmp_path / "first" / "b.json").write_bytes(b"{}")
    for side in ("first", "second"):
        (tmp_path / f"{side}.json").write_text(json.dumps({"WALG_FILE_PREFIX": str(tmp_path / side)}))
    result = wal_g("copy", "--from", str(tmp_path / "first.json"), "--to", str(tmp_path / "second.json"))
    assert "Successfully copied 2 objects" in result.stderr, result.stderr
    assert sorted(os.listdir(tmp_path / "second")) == ["a", "b.json"]


# the parts


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["top"]),
        ("a/*", ["a/1", "a/2x"]),
        ("*/?", ["a/1", "b/3"]),
        ("[ab]/[0-9]", ["a/1", "b/3"]),
        ("[^a]/*", ["b/3"]),
        ("a/b/*", ["a/b/deep"]),
        ("nothing*", []),
        (r"a/\1", ["a/1"]),
        ("/", []),
    ],
)
def test_globs(pattern: str, found: list[str]) -> None:
    storage = MemoryStorage()
    for key in ("top", "a/1", "a/2x", "a/b/deep", "b/3"):
        storage.put_bytes(key, b"")
    assert list(glob.objects(storage, pattern)) == found


def test_folder_globs() -> None:
    storage = MemoryStorage()
    for key in ("aa/x/1", "ab/x/1", "b/x/1"):
        storage.put_bytes(key, b"")
    assert list(glob.folders(storage, "a*")) == ["aa/", "ab/"]
    assert list(glob.folders(storage, "a*/x")) == ["aa/x/", "ab/x/"]
    assert list(glob.folders(storage, "/")) == [""]
    with pytest.raises(WalgError, match="syntax error"):
        list(glob.folders(storage, "[a"))


def test_prefixes_are_not_strings() -> None:
    storage = MemoryStorage()
    for key in ("a", "a/b", "ab", "c/d"):
        storage.put_bytes(key, b"")
    assert [info.key for info in below(storage, "a")] == ["a"]
    assert [info.key for info in below(storage, "a/")] == ["a/b"]
    assert [info.key for info in below(storage, "/c/")] == ["c/d"]
    assert len(list(below(storage, ""))) == 4
    assert remove(storage, "c") == 1


def test_times() -> None:
    assert table.go_time(0, False) == "1970-01-01 00:00:00 +0000 UTC"
    assert table.go_time(1_500_000_000, False) == "1970-01-01 00:00:01.5 +0000 UTC"


def test_versions_are_marked() -> None:
    class Versioned(MemoryStorage):
        def list_versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
            yield ObjectInfo("f/gone", 0, 0.0, "v3", deleted=True)
            yield ObjectInfo("f/gone", 5, 0.0, "v1", latest=False)
            yield ObjectInfo("f/here", 7, 0.0, "v2")
            yield ObjectInfo("f/sub/x", 1, 0.0, "v4")

    rows = table.version_rows(Versioned(), "f/", recursive=False)
    assert [(row[3], row[4], row[5]) for row in rows] == [
        ("sub/", "", ""),
        ("gone", "v1", ""),
        ("here", "v2", "LATEST"),
        ("gone", "v3", "LATEST DELETE"),
    ]
    tree = table.version_rows(Versioned(), "f/", recursive=True)
    assert [(row[3], row[4]) for row in tree] == [("gone", "v1"), ("here", "v2"), ("gone", "v3"), ("sub/x", "v4")]


def test_folders_over_sftp_are_shown_by_their_path() -> None:
    class Sftp(MemoryStorage):
        file_system = True
        remote = True

    storage = Sftp()
    for name in ("top", "a/x", "a/b/y"):
        storage.put_bytes(name, b"x")
    assert [row[3] for row in table.folder_rows(storage, "")] == ["/a", "top"]
    assert [row[3] for row in table.folder_rows(storage, "a/")] == ["/b", "x"]
    assert [row[3] for row in table.tree_rows(storage, "")] == ["top", "/a/x", "/a/b/y"]


def test_write_check_sees_a_storage_that_loses() -> None:
    class Loses(MemoryStorage):
        def get(self, key: str, limit: int = 1 << 30) -> bytes:
            return b"other"

    with pytest.raises(StorageError, match="does not come back"):
        check_write(Loses())
    check_write(MemoryStorage())
    check_read(MemoryStorage(), [])


def archive(*names: str) -> MemoryStorage:
    storage = MemoryStorage()
    for name in names:
        storage.put_bytes(f"base/{name}_sentinel.json", b"{}")
        for part in range(3):
            storage.put_bytes(f"base/{name}/part{part}", b"data")
    return storage


def move(source: object, target: object, options: transfer.Options = QUICK, name: str = "") -> None:
    transfer.transfer_backups(
        source,  # type: ignore[arg-type]
        target,  # type: ignore[arg-type]
        options,
        folder="base/",
        prefix="b",
        sentinel="_sentinel.json",
        name=name,
    )


def test_backups_move_whole() -> None:
    source, target = archive("b1", "b2", "other"), MemoryStorage()
    source.put_bytes("base/b3/part0", b"no sentinel")
    move(source, target)
    moved = [info.key for info in target.list()]
    assert len(moved) == 8
    assert {info.key.split("/")[1] for info in source.list()} == {"b3", "other", "other_sentinel.json"}


def test_limits_never_split_a_backup() -> None:
    source, target = archive("b1", "b2"), MemoryStorage()
    move(source, target, transfer.Options(max_files=7, appearance_interval=0))
    assert sorted({info.key.split("/")[1].split("_")[0] for info in target.list()}) == ["b1"]
    move(source, target, transfer.Options(max_backups=0))
    assert source.exists("base/b2_sentinel.json")


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_failed_data_file_never_lets_the_sentinel_go(fail_fast: bool) -> None:
    source, target = archive("b1", "b2"), FaultyStorage(MemoryStorage())
    target.fail("put", error=StorageError("refused"))
    with pytest.raises(StorageError, match="refused" if fail_fast else "finished with 1 errors"):
        move(source, target, transfer.Options(fail_fast=fail_fast, concurrency=1))
    assert not target.inner.exists("base/b1_sentinel.json")
    assert source.exists("base/b1_sentinel.json")
    assert len(list(source.list("base/b1/"))) == 3
    assert target.inner.exists("base/b2_sentinel.json") != fail_fast


def test_a_copy_that_does_not_appear_is_an_error() -> None:
    class Hides(MemoryStorage):
        def exists(self, key: str) -> bool:
            return False

    source = MemoryStorage()
    source.put_bytes("a/1", b"x")
    with pytest.raises(StorageError, match="finished with 1 errors"):
        transfer.transfer_files(source, Hides(), "a", QUICK)
    assert source.exists("a/1")


def test_copy_puts_metadata_last() -> None:
    order = []

    class Notes(MemoryStorage):
        def put(self, key: str, *rest: object) -> int:  # type: ignore[override]
            order.append(key)
            return super().put(key, *rest)  # type: ignore[arg-type]

    source = archive("b1", "b2")
    assert copy_objects(source, Notes(), "base/") == 8
    assert all(key.endswith(".json") for key in order[-2:])


def test_request_budgets() -> None:
    """A listing storm would show here: the number of requests does not grow with the number of objects."""
    storage = FaultyStorage(archive(*(f"b{number}" for number in range(50))))
    list(below(storage, "base"))
    assert sum(storage.calls.values()) <= 2
    storage.calls.clear()
    table.folder_rows(storage, "base/")
    assert sum(storage.calls.values()) <= 2
    storage.calls.clear()
    remove(storage, "base")
    assert sum(storage.calls.values()) <= 3
