"""Parts that need no server: checksums, manifests, slots, retention, names, tiered storage."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.context import Context
from walg_core.errors import EngineError, IntegrityError, UsageError
from walg_core.plugins import installed
from walg_core.settings.config import Config
from walg_redis.backup import manifest, slots
from walg_redis.backup.pins import Pinned, held, held_new, pin
from walg_redis.backup.tars import group
from walg_redis.catalog import go_time, go_value
from walg_redis.restore import crc64
from walg_redis.restore.check import check_aof, check_rdb
from walg_redis.restore.swap import Old, Staging, replace_directory
from walg_redis.sentinel import arranged, check_type, version_pair


def byte_by_byte(data: bytes) -> int:
    """The definition: Jones' polynomial, reflected, one bit after another."""
    checksum = 0
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = (checksum >> 1) ^ (0x95AC9329AC4BC9B5 if checksum & 1 else 0)
    return checksum


def test_the_checksum_of_redis_own_test() -> None:
    assert crc64.update(0, b"123456789") == 0xE9C6D914C4B8D9CA


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 3000))
def test_checksums(data: bytes, cut: int) -> None:
    assert crc64.update(crc64.update(0, data[:cut]), data[cut:]) == byte_by_byte(data)


def test_a_long_checksum_joins() -> None:
    data = os.urandom(3_000_000)
    assert crc64.update(0, data) == crc64.update(crc64.update(0, data[:1_234_567]), data[1_234_567:])


def rdb(body: bytes = b"\xfe\x00") -> bytes:
    data = b"REDIS0011" + body + b"\xff"
    return data + crc64.update(0, data).to_bytes(8, "little")


def test_rdb_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    path = tmp_path / "x.rdb"
    whole = rdb()
    for good in (whole, whole + b"0123456789abcdef0123" * 2, whole[:-8] + bytes(8)):
        path.write_bytes(good)
        check_rdb(str(path))
    for bad in (
        b"",
        whole[:-1],
        whole[:5],
        whole[:-9],
        whole + b"x" * 40,
        b"RADIS" + whole[5:],
        whole[:-8] + b"12345678",
    ):
        path.write_bytes(bad)
        with pytest.raises(IntegrityError):
            check_rdb(str(path))


COMMAND = b"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n"


@pytest.mark.parametrize(
    ("first", "last", "good"),
    [
        (COMMAND * 2, COMMAND, True),
        (b"#TS:1\r\n" + COMMAND, b"", True),
        (COMMAND, COMMAND + COMMAND[:-3], True),
        (COMMAND, COMMAND + b"*2", True),
        (COMMAND[:-3], COMMAND, False),
        (COMMAND, b"junk\r\n" + COMMAND, False),
        (COMMAND, b"*1\r\nGET\r\n", False),
        (COMMAND, COMMAND[:-2] + b"xx", False),
    ],
)
def test_aof_checks(tmp_path: Path, first: bytes, last: bytes, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "b").write_bytes(rdb())
    (tmp_path / "1").write_bytes(first)
    (tmp_path / "2").write_bytes(last)
    (tmp_path / "m").write_text(
        "file gone seq 0 type h\nfile b seq 1 type b\nfile 1 seq 1 type i\nfile 2 seq 2 type i\n"
    )
    if good:
        check_aof(str(tmp_path), "m")
    else:
        with pytest.raises(IntegrityError):
            check_aof(str(tmp_path), "m")
    (tmp_path / "1").unlink()
    with pytest.raises(IntegrityError, match="lacks 1"):
        check_aof(str(tmp_path), "m")


@given(st.binary(max_size=300))
def test_any_manifest_is_parsed_or_refused(data: bytes) -> None:
    try:
        assert manifest.parse(data, "m")
    except IntegrityError:
        pass


def test_manifests() -> None:
    text = b'# comment\nfile "a b.rdb" seq 2 type b startoffset 17\nfile c.aof seq 2 type i endoffset 9\n'
    assert manifest.parse(text, "m") == [("a b.rdb", 2, "b"), ("c.aof", 2, "i")]
    for bad in (b"", b"file ../x seq 1 type b", b"file x seq 1", b"file x seq y type b", b"file x seq 1 type z"):
        with pytest.raises(IntegrityError):
            manifest.parse(bad, "m")


NODES = """a1 10.0.0.1:6379@16379,h1.example.,tls-port=0 myself,master - 0 0 44 connected 0-5460 7000
a2 10.0.0.2:6379@16379,h2 master,nofailover - 0 0 53 connected
a3 10.0.0.3:6379@16379,h3 slave a1 0 0 53 connected
a4 10.0.0.4:6379@16379,,tls-port=0 master,fail,nofailover - 0 0 53 disconnected
vars currentEpoch 55 lastVoteEpoch 0
"""


@pytest.mark.parametrize(
    ("text", "ids", "outcome"),
    [
        (NODES, {"h1.example": "s2", "h2": "s1"}, {"s1": None, "s2": [["0", "5460"], ["7000", "7000"]]}),
        (NODES, {"h1.example": "s2"}, "failed to find ID from h2"),
        (NODES, {"h1.example": "s2", "h2": "s1", "h9": "s9"}, "failed to find all IDs"),
        (NODES.replace("7000", "[7000->-a2]"), {"h1.example": "s2", "h2": "s1"}, "slots migrating"),
    ],
)
def test_slots(tmp_path: Path, text: str, ids: dict[str, str], outcome: Any) -> None:
    (tmp_path / "nodes").write_text(text)
    environment = {
        "WALG_REDIS_CLUSTER_CONF_PATH": str(tmp_path / "nodes"),
        "WALG_REDIS_FQDN_TO_ID_MAP": json.dumps(ids),
    }
    config = Context(Config(installed().all_settings("redis"), environment=environment), installed()).config
    if isinstance(outcome, str):
        with pytest.raises(EngineError, match=outcome):
            slots.read(config)
    else:
        assert slots.read(config) == outcome
        assert list(slots.read(config)) == sorted(outcome)


def test_pins(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "folder"
    source.write_text("x")
    folder.mkdir()
    os.link(source, folder / "a")
    (held,) = pin([(str(source), "a")], str(folder), "WALG_X")
    assert held.member == "/a"
    (folder / "b").write_text("foreign")
    with pytest.raises(EngineError, match="cannot be pinned"):
        pin([(str(source), "c"), (str(source), "b")], str(folder), "WALG_X")
    assert not (folder / "c").exists()
    assert (folder / "b").read_text() == "foreign"


def test_groups() -> None:
    files = [Pinned("", str(number), size, 0) for number, size in enumerate((5, 6, 1, 20, 1))]
    assert [[each.size for each in part] for part in group(files, 10)] == [[5, 6], [1, 20], [1]]


def test_swapping_directories(tmp_path: Path) -> None:
    target = tmp_path / "aof"
    for content in ("first", "second"):
        with Staging(str(tmp_path)) as folder:
            staged = Path(folder) / "new"
            staged.mkdir()
            (staged / "file").write_text(content)
            old = Old(str(tmp_path), keep=True)
            replace_directory(str(staged), str(target), old)
            old.finish()
        assert (target / "file").read_text() == content
    (kept,) = tmp_path.glob("wal-g-old-*")
    assert (kept / "aof/file").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 2


def test_go_forms() -> None:
    assert go_value({"b": [1, None], "a": True}) == "map[a:true b:[1 <nil>]]"
    assert go_time("2024-01-02T03:04:05.12Z") == "2024-01-02 03:04:05.12 +0000 UTC"
    assert go_time("2024-01-02T03:04:05+11:17") == "2024-01-02 03:04:05 +1117 +1117"


def test_sentinel_keys() -> None:
    assert list(arranged({"HasTS": False, "Version": "", "DataSize": 0, "UserData": 0})) == [
        "StartLocalTime", "FinishLocalTime", "Permanent", "MaxDBNumber", "TSStartTime", "TSFinishTime",
    ]  # fmt: skip
    assert version_pair("8") == (8, 0) < version_pair("8.10.1") == (8, 10)
    with pytest.raises(IntegrityError):
        version_pair("seven")
    with pytest.raises(UsageError, match="invalid --type"):
        check_type("RDB")


class Field:
    """The engine's own script on an archive of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "archive").mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(path),
            "WALG_FILE_PREFIX": str(path / "archive"),
            "WALG_REDIS_PORT": "1",
            "WALG_REDIS_TS_PIN_FOLDER": str(path / "pin"),
            "WALG_REDIS_DATA_PATH": str(path / "data"),
            "WALG_STREAM_CREATE_COMMAND": f"cat {path}/rdb",
        }
        (path / "rdb").write_bytes(rdb())

    def run(self, *words: str, status: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", "from walg_redis.script import main; main()", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


@pytest.mark.parametrize("kind", ["ts", "rdb_ts"])
def test_tiered_storage(field: Field, kind: str) -> None:
    tree = field.path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/data.sst").write_bytes(b"1" * 1000)
    (tree / "MANIFEST").write_bytes(b"2")
    (tree / "LOCK.lock").write_bytes(b"")
    (tree / "link").symlink_to("MANIFEST")
    words = ("--type", kind, "--ts-backup", str(tree))
    field.run("backup-push", *words, "--ts-backup-id", "id1")
    assert list((field.path / "pin").iterdir()) == []
    rows = json.loads(field.run("backup-list", "--detail", "--json")[0])
    assert rows[0]["HasTS"] is True
    assert rows[0]["TSBackupID"] == "id1"
    assert rows[0]["TSFileCount"] == 2
    assert rows[0]["BackupName"].startswith("ts_" if kind == "ts" else "stream_")
    target = field.path / "target"
    field.run("backup-fetch", "LATEST", "--type", kind, "--ts-backup", str(target))
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()) == ["MANIFEST", "a/b/data.sst"]
    assert (target / "a/b/data.sst").read_bytes() == b"1" * 1000
    (target / "precious").write_text("x")
    _, err = field.run("backup-fetch", "LATEST", "--type", kind, "--ts-backup", str(target), status=1)
    assert "is not empty" in err
    assert (target / "precious").exists()
    field.run("backup-fetch", "LATEST", "--type", kind, "--ts-backup", str(target), "--force")
    assert not (target / "precious").exists()
    if kind == "rdb_ts":
        assert (field.path / "data/dump.rdb").read_bytes() == rdb()


def test_tiered_storage_arguments(field: Field) -> None:
    empty = field.path / "empty"
    empty.mkdir()
    (field.path / "skipped").mkdir()
    (field.path / "skipped/x.tmp").touch()
    for words, match in (
        (("--type", "ts"), "--ts-backup is required"),
        (("--type", "ts", "--ts-backup", str(empty)), "is empty"),
        (("--type", "ts", "--ts-backup", str(field.path / "no")), "is not a directory"),
        (("--type", "ts", "--ts-backup", str(field.path / "skipped")), "only files that are skipped"),
        (("--ts-backup-id", "x"), "only valid for tiered-storage"),
    ):
        _, err = field.run("backup-push", *words, status=1)
        assert match in err
    assert [p for p in (field.path / "archive").rglob("*") if p.is_file()] == []


def test_deletion(field: Field) -> None:
    for words in ((), ("--permanent",), ()):
        field.run("backup-push", *words)
    names = [line.split()[0] for line in field.run("backup-list")[0].splitlines()[1:]]
    _, err = field.run("delete", "--retain-count", "0", "--confirm", status=1)
    assert "Retain count can not be 0" in err
    field.run("delete", "--retain-count", "1")
    _, err = field.run("backup-delete", names[1], "--confirm", status=1)
    assert "permanent" in err
    _, err = field.run("backup-delete", "stream_20000101T000000Z", "--confirm")
    assert "does not exist" in err
    field.run("backup-delete", "stream_20000101T000000Z", "--strict", status=1)
    _, err = field.run("delete", "--retain-count", "1", "--confirm")
    assert "Backups were purged: deleted: 1, retained: 2" in err
    assert [line.split()[0] for line in field.run("backup-list")[0].splitlines()[1:]] == names[1:]
    field.run("delete", "before", names[2], "--confirm")
    field.run("backup-mark", "-i", names[1])
    field.run("delete", "retain", "1", "--confirm")
    assert [line.split()[0] for line in field.run("backup-list")[0].splitlines()[1:]] == names[2:]


@pytest.mark.parametrize("method", ["none", "brotli"])
def test_sharded(field: Field, method: str) -> None:
    (field.path / "nodes").write_text(NODES)
    field.environment |= {
        "WALG_COMPRESSION_METHOD": method,
        "WALG_REDIS_CLUSTER_CONF_PATH": str(field.path / "nodes"),
        "WALG_REDIS_FQDN_TO_ID_MAP": '{"h1.example":"s2","h2":"s1"}',
    }
    field.run("backup-push", "--sharded")
    field.environment["WALG_COMPRESSION_METHOD"] = "lz4"
    out, _ = field.run("backup-info", "LATEST", "--tag", "Slots")
    assert out == '{"s1":null,"s2":[["0","5460"],["7000","7000"]]}\n'
    (row,) = json.loads(field.run("backup-info", "LATEST")[0])
    assert row["DataSize"] == len(rdb()) + len(out) - 1
    field.run("backup-fetch", "LATEST")
    assert (field.path / "data/dump.rdb").read_bytes() == rdb()


def test_links_of_killed_backups_are_freed(tmp_path: Path) -> None:
    folder = tmp_path / "pins"
    folder.mkdir()
    for name in ("appendonly.aof.3.base.rdb", "foreign"):
        (folder / name).write_text("x")
    with held(str(folder), "WALG_X", lambda name: name.startswith("appendonly.aof.")):
        assert [path.name for path in folder.iterdir()] == ["foreign"]
        with pytest.raises(EngineError, match="another backup"), held(str(folder), "WALG_X", lambda name: True):
            pass
    assert (folder / "foreign").exists()


def test_trees_of_killed_backups_are_freed_and_those_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "ts-killed").mkdir()
    (tmp_path / "ts-killed/file").write_text("x")
    with held_new(str(tmp_path), "ts-") as first, held_new(str(tmp_path), "ts-") as second:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(os.path.basename, (first, second)))
    assert list(tmp_path.iterdir()) == []


def test_what_killed_restores_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".wal-g-restore-killed").mkdir()
    (tmp_path / ".wal-g-replaced-20260101T000000Z").mkdir()
    (tmp_path / "dump.rdb").write_text("old")
    with Staging(str(tmp_path)) as first, Staging(str(tmp_path)) as second:
        assert os.path.isdir(first)
        assert os.path.isdir(second)
        assert len(list(tmp_path.glob(".wal-g-restore-*"))) == 2
        assert len(list(tmp_path.glob(".wal-g-replaced-*"))) == 1
        old = Old(str(tmp_path), keep=False)
        old.put_aside(str(tmp_path / "dump.rdb"))
        assert not list(tmp_path.glob("wal-g-old-*"))
        old.finish()
    assert list(tmp_path.iterdir()) == []
