"""A restore that is killed, runs out of space or finds damage leaves the old data or the new, never a mixture.

The data is made up and no server runs: what a server would load is what the files are.
WALG_TEST_KILLS: how many system calls of each restore are killed at (default 6, spread over all; 0: every one).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from walg_core.testing import crash
from walg_redis.restore import crc64

CODE = "from walg_redis.script import main; main()"
KINDS = {"rdb": (), "aof": ("--type", "aof", "--redis-version", "7.0.15")}
NAME = "appendonly.aof"


def rdb(size: int) -> bytes:
    """An RDB as far as it is checked without a server's tools."""
    data = b"REDIS0011" + random.Random(size).randbytes(size) + b"\xff"
    return data + crc64.update(0, data).to_bytes(8, "little")


def commands(count: int) -> bytes:
    return b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%d\r\n" % (len(str(each)), each) for each in range(count))


def fill(data: Path, number: int, size: int = 300_000) -> None:
    """The data directory of a server that has both an RDB and an AOF of three files."""
    shutil.rmtree(data, ignore_errors=True)
    folder = data / "appendonlydir"
    folder.mkdir(parents=True)
    (data / "dump.rdb").write_bytes(rdb(size + number))
    (folder / f"{NAME}.{number}.base.rdb").write_bytes(rdb(size + number))
    (folder / f"{NAME}.{number}.incr.aof").write_bytes(commands(2000))
    (folder / f"{NAME}.{number + 1}.incr.aof").write_bytes(commands(3000))
    (folder / f"{NAME}.manifest").write_text(
        f"file {NAME}.{number}.base.rdb seq {number} type b\nfile {NAME}.{number}.incr.aof seq {number} type i\n"
        f"file {NAME}.{number + 1}.incr.aof seq {number + 1} type i\n"
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


class Field:
    """An archive with a backup of each type, and a data directory with older data."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.data = path, path / "data"
        program = path / "fake-server"
        program.write_text("#!/bin/sh\necho 'Redis server v=7.0.15 sha=0'\n")
        program.chmod(0o755)
        for name in ("archive", "home", "bin"):
            (path / name).mkdir()
        # The checkers of a server stay out: made-up data satisfies our own checks only.
        for tool in ("sh", "cat", "strace", "mount", "cp", "unshare"):
            if found := shutil.which(tool):
                (path / "bin" / tool).symlink_to(found)
        for name, value in {
            "PATH": str(path / "bin"), "HOME": str(path / "home"), "WALG_FILE_PREFIX": str(path / "archive"),
            "WALG_REDIS_PORT": "1", "WALG_REDIS_DATA_PATH": str(path / "source"), "WALG_COMPRESSION_METHOD": "none",
            "WALG_REDIS_SERVER_PROCESS_NAME": str(program), "WALG_REDIS_CONF_PATH": str(path / "redis.conf"),
            "WALG_REDIS_APPENDONLY_TEMP_MANIFEST": str(path / "pins"), "WALG_DOWNLOAD_CONCURRENCY": "1",
            "WALG_REDIS_TS_PIN_FOLDER": str(path / "ts"),
            "WALG_STREAM_CREATE_COMMAND": f"cat {path}/source/dump.rdb",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        fill(path / "source", 9)
        self.run("backup-push")
        self.run("backup-push", "--type", "aof")
        monkeypatch.setenv("WALG_REDIS_DATA_PATH", str(self.data))
        self.new = self.both(path / "source")
        fill(self.data, 1)
        self.old = self.both(self.data)

    def both(self, data: Path) -> tuple[bytes, dict[str, bytes]]:
        return (data / "dump.rdb").read_bytes(), contents(data / "appendonlydir")

    def run(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=False, timeout=180
        )
        assert done.returncode == status, done.stderr
        return done.stderr

    def fetch(self, kind: str, status: int = 0) -> str:
        return self.run("backup-fetch", "LATEST", *KINDS[kind], status=status)

    def loaded(self, kind: str) -> object:
        """What a server would load: its AOF where it has one, its RDB otherwise."""
        return contents(self.data / "appendonlydir") if kind == "aof" else (self.data / "dump.rdb").read_bytes()


@pytest.fixture
def field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Field:
    return Field(tmp_path, monkeypatch)


def spread(calls: list[crash.Call]) -> list[crash.Call]:
    count = int(os.environ.get("WALG_TEST_KILLS", "6"))
    if not count or count >= len(calls):
        return calls
    return [calls[at * (len(calls) - 1) // (count - 1)] for at in range(count)]


@pytest.mark.slow
@pytest.mark.skipif(not crash.available(), reason="strace is not installed or may not trace")
@pytest.mark.parametrize("kind", ["rdb", "aof"])
def test_killed_anywhere_the_old_or_the_new_is_there(field: Field, kind: str, tmp_path: Path) -> None:
    words = ["backup-fetch", "LATEST", *KINDS[kind]]
    calls = list(crash.changes(crash.trace(CODE, words, str(field.data), tmp_path)))
    # An rdb is laid out as an AOF as well; of an aof backup an RDB is no part.
    loads = ("rdb", "aof") if kind == "rdb" else ("aof",)
    old = {"rdb": field.old[0], "aof": field.old[1]}
    new = {each: field.loaded(each) for each in loads}
    assert len(calls) > 10
    seen = set()
    for call in spread(calls):
        fill(field.data, 1)
        crash.kill_at(CODE, words, call)
        for each in loads:
            found = field.loaded(each)
            assert found in (old[each], new[each]), call
            seen.add(found == new[each])
    assert False in seen
    fill(field.data, 1)
    field.fetch(kind)
    assert {each: field.loaded(each) for each in loads} == new


@pytest.mark.slow
@pytest.mark.skipif(not crash.available(), reason="strace is not installed or may not trace")
@pytest.mark.parametrize("kind", ["rdb", "aof"])
def test_a_push_killed_anywhere_lists_nothing_or_a_whole_backup(field: Field, kind: str, tmp_path: Path) -> None:
    os.environ["WALG_REDIS_DATA_PATH"] = str(tmp_path / "source")
    words = ["backup-push", "--type", kind]
    calls = list(crash.changes(crash.trace(CODE, words, str(tmp_path / "archive"), tmp_path)))
    for call in spread(calls):
        shutil.rmtree(tmp_path / "archive/basebackups_005", ignore_errors=True)
        crash.kill_at(CODE, words, call)
        if list((tmp_path / "archive/basebackups_005").glob("*_backup_stop_sentinel.json")):
            os.environ["WALG_REDIS_DATA_PATH"] = str(field.data)
            fill(field.data, 1)
            field.fetch(kind)
            assert field.loaded(kind) == (field.new[1] if kind == "aof" else field.new[0]), call
            os.environ["WALG_REDIS_DATA_PATH"] = str(tmp_path / "source")
    field.run("backup-push", "--type", kind)
    assert list((tmp_path / "pins").iterdir()) == []


def damaged_archives(kind: str, data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    found = {"a flipped bit": flipped, "nothing": b"", "foreign": b"x" * len(data), "cut": data[:middle]}
    if kind == "aof":
        # Inside the first increment, which is complete; and a tar without the base, without its end.
        found["a torn increment"] = data.replace(b"GET\r\n$4\r\n1500", b"GET\r\n$4\r\n15x\r\n", 1)
        found["another base"] = data.replace(b".9.base.rdb", b".8.base.rdb")
        found["no trailer"] = data[: len(data) - 1024 - 512]
        found["a name that leads out"] = data.replace(b"/appendonly.aof.9.base.rdb", b"/../pendonly.aof.9.base.rd")
    else:
        found["cut at the end"] = data[:-1]
        found["a checksum of another"] = data[:-8] + b"12345678"
    return found


@pytest.mark.parametrize("kind", ["rdb", "aof"])
def test_damage_is_refused_before_anything_is_touched(field: Field, kind: str) -> None:
    pattern = "stream_*/stream" if kind == "rdb" else "aof_*/tar_partitions/part_001.tar"
    (stored,) = (field.path / "archive/basebackups_005").glob(pattern)
    whole = stored.read_bytes()
    for what, data in damaged_archives(kind, whole).items():
        assert data != whole, what
        stored.write_bytes(data)
        said = field.fetch(kind, status=1)
        assert "Traceback" not in said, what
        assert field.both(field.data) == field.old, what
        assert sorted(path.name for path in field.data.iterdir()) == ["appendonlydir", "dump.rdb"], what
    stored.unlink()
    field.fetch(kind, status=1)
    assert field.both(field.data) == field.old
    stored.write_bytes(whole)
    field.fetch(kind)
    assert field.loaded(kind) == (field.new[1] if kind == "aof" else field.new[0])


@pytest.mark.parametrize("kind", ["rdb", "aof"])
def test_a_full_disk_leaves_the_old_data(field: Field, kind: str) -> None:
    """A file system with room for the old data and half of the new; only root may mount one."""
    inside = (
        'mount -t tmpfs -o size=900k tmpfs "$WALG_REDIS_DATA_PATH" || exit 9; '
        'cp -r "$KEPT"/. "$WALG_REDIS_DATA_PATH"; "$@"; status=$?; cp -r "$WALG_REDIS_DATA_PATH"/. "$OUT"; exit $status'
    )
    (field.path / "out").mkdir()
    kept = field.path / "kept"
    shutil.copytree(field.data, kept)
    words = [sys.executable, "-c", CODE, "backup-fetch", "LATEST", *KINDS[kind]]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, "sh", *words],
        env={**os.environ, "OUT": str(field.path / "out"), "KEPT": str(kept)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    if done.returncode == 9 or "unshare" in done.stderr:
        pytest.skip("this user may not mount a tmpfs")
    assert done.returncode == 1, done.stderr
    assert "No space left" in done.stderr
    assert field.both(field.path / "out") == field.old
    assert sorted(path.name for path in (field.path / "out").iterdir()) == ["appendonlydir", "dump.rdb"]


@pytest.mark.slow
@pytest.mark.skipif(not crash.available(), reason="strace is not installed or may not trace")
def test_a_killed_push_with_a_tree_lists_both_or_none(field: Field, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "1.sst").write_bytes(b"1" * 1000)
    os.environ["WALG_REDIS_DATA_PATH"] = str(tmp_path / "source")
    words = ["backup-push", "--type", "rdb_ts", "--ts-backup", str(tree)]
    folder = tmp_path / "archive/basebackups_005"
    calls = list(crash.changes(crash.trace(CODE, words, str(tmp_path / "archive"), tmp_path)))
    # The last ones write and rename the two sentinels.
    for call in spread(calls[-30:]):
        shutil.rmtree(folder, ignore_errors=True)
        crash.kill_at(CODE, words, call)
        for sentinel in folder.glob("*_backup_stop_sentinel.json"):
            name = sentinel.name.partition("_backup")[0]
            assert (folder / name / "ts_data_backup_stop_sentinel.json").exists(), call
