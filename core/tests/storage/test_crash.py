"""Killed at every changing system call, a file writer leaves the old state or the new one, and nothing else."""

import os
from pathlib import Path

import pytest
from walg_core.storage.local import LocalStorage
from walg_core.testing import crash

pytestmark = pytest.mark.skipif(not crash.available(), reason="strace is not installed or may not trace")

PUT = """
import sys
from walg_core.storage.local import LocalStorage
from walg_core.pipeline.reader import BytesReader
root, key, size, absent = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "absent"
LocalStorage(root).put(key, BytesReader(b"N" * size), None, absent)
"""
KEY = "wal_005/sub/000000010000000000000001.lz4"
OLD = b"O" * 5000
SIZES = (0, 4096, 2_500_000)


def visible(root: Path) -> dict[str, bytes]:
    storage = LocalStorage(str(root))
    return {info.key: storage.get(info.key) for info in storage.list()}


def fresh(base: Path, number: int, old: bool) -> Path:
    root = base / f"run-{number}"
    root.mkdir()
    if old:
        LocalStorage(str(root)).put_bytes(KEY, OLD)
    return root


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("old", [False, True], ids=["new", "overwrite"])
def test_kill_at_every_change(tmp_path: Path, size: int, old: bool) -> None:
    root = fresh(tmp_path, 0, old)
    calls = crash.trace(PUT, [str(root), KEY, str(size), ""], str(root), tmp_path)
    points = list(crash.changes(calls))
    assert len(points) >= 4
    before = {KEY: OLD} if old else {}
    after = {KEY: b"N" * size}
    seen = []
    for number, point in enumerate(points, 1):
        root = fresh(tmp_path, number, old)
        assert crash.kill_at(PUT, [str(root), KEY, str(size), ""], point), f"not killed at {point}"
        found = visible(root)
        assert found in (before, after), f"killed at {point.name}: neither the old nor the new state"
        seen.append(found == after)
        # Everything goes on from there.
        LocalStorage(str(root)).put_bytes(KEY, b"retried")
        assert visible(root) == {KEY: b"retried"}
    assert seen == sorted(seen), "the new state appeared and vanished again"
    assert not seen[0]


def test_kill_at_every_change_of_an_exclusive_put(tmp_path: Path) -> None:
    root = fresh(tmp_path, 0, False)
    arguments = [str(root), KEY, "4096", "absent"]
    for number, point in enumerate(crash.changes(crash.trace(PUT, arguments, str(root), tmp_path)), 1):
        root = fresh(tmp_path, number, False)
        assert crash.kill_at(PUT, [str(root), *arguments[1:]], point)
        assert visible(root) in ({}, {KEY: b"N" * 4096})


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_an_error_at_every_change_is_reported_and_leaves_nothing(tmp_path: Path, error: str) -> None:
    root = fresh(tmp_path, 0, True)
    arguments = [str(root), KEY, "4096", ""]
    for number, point in enumerate(crash.changes(crash.trace(PUT, arguments, str(root), tmp_path)), 1):
        root = fresh(tmp_path, number, True)
        result = crash.fail_at(PUT, [str(root), *arguments[1:]], point, error)
        found = visible(root)
        assert result.returncode == 1, f"{error} at {point.name} was not reported"
        assert b"walg_core.errors." in result.stderr
        assert found in ({KEY: OLD}, {KEY: b"N" * 4096})
        left = [name for _, _, names in os.walk(root) for name in names if ".tmp." in name]
        assert not left or point.name.startswith("unlink"), f"{error} at {point.name} left {left}"


WRITERS: dict[str, str] = {
    "put": f"LocalStorage(root).put_bytes({KEY!r}, b'x' * 100000)",
    "put if absent": f"LocalStorage(root).put_bytes({KEY!r}, b'x' * 100000, if_absent=True)",
    "copy": "LocalStorage(root).put_bytes('a/b', b'x'); LocalStorage(root).copy('a/b', 'c/d/e')",
    "write_file": "atomic.write_file(root + '/file', b'x' * 10)",
    "write_file exclusive": "atomic.write_file(root + '/file', b'x' * 10, mode=0o600, exclusive=True)",
    "AtomicFile": "file = atomic.AtomicFile(root + '/file'); file.write(b'x'); file.commit()",
    "make_dirs": "atomic.make_dirs(root + '/a/b/c/d')",
    "status cache": (
        "os.environ['HOME'] = root; from walg_core.storage.aliveness import Averaging, StatusCache;"
        "cache = StatusCache('rw', 900, Averaging(.99, .88, (.01, .05), (.1, .5))); cache.check('a#b', True);"
        "cache.save()"
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_order_of_durability(tmp_path: Path, writer: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    code = (
        "import sys, os\nfrom walg_core.io import atomic\nfrom walg_core.storage.local import LocalStorage\n"
        f"root = sys.argv[1]\n{WRITERS[writer]}\n"
    )
    calls = crash.trace(code, [str(root)], str(root), tmp_path)
    assert any(call.name.startswith(("rename", "link", "mkdir")) for call in calls)
    assert crash.ordering_problems(calls) == []


def test_the_order_check_finds_what_is_wrong(tmp_path: Path) -> None:
    write = "f = open('{0}/t', 'wb'); f.write(b'x'); f.flush(); "
    rename = "os.rename('{0}/t', '{0}/f'); "
    bad = {
        "before its data was synced": write + rename + "os.fsync(os.open('{0}', 0))",
        "is never made durable": write + "os.fsync(f.fileno()); " + rename,
        "the new directory": "os.mkdir('{0}/d')",
    }
    for number, (problem, code) in enumerate(bad.items()):
        root = tmp_path / str(number)
        root.mkdir()
        calls = crash.trace("import os\n" + code.format(root), [], str(root), tmp_path)
        assert any(problem in found for found in crash.ordering_problems(calls)), problem
