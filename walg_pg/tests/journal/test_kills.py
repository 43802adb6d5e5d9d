"""kill -9 and rivals: what PostgreSQL was told is archived is there, whole; nothing wrong is ever handed out."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from walg_core.compression.lz4 import compressor as lz4
from walg_core.io.atomic import is_temporary
from walg_core.pipeline.reader import BytesReader, read_all

WAL_G = [sys.executable, "-m", "walg_core", "pg"]
NAMES = [f"00000001000000000000000{digit}" for digit in "123456789A"]


def environment(archive: Path, data: Path, **more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "PG"))}
    return {**inherited, "WALG_FILE_PREFIX": str(archive), "PGDATA": str(data), **more}


def check_archive(archive: Path, directory: Path) -> set[str]:
    """Every visible object is whole and equals its segment; returns the names."""
    folder = archive / "wal_005"
    names = set()
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_temporary(path.name):
            continue
        plain = read_all(lz4.decompress(BytesReader(path.read_bytes())))
        assert plain == (directory / path.stem).read_bytes(), path.name
        names.add(path.stem)
    return names


@pytest.mark.parametrize("seed", [1, 2])
def test_wal_push_killed_at_any_moment(data: Path, tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    archive = tmp_path / "archive"
    archive.mkdir()
    wal = data / "pg_wal"
    for name in NAMES:
        (wal / "archive_status" / f"{name}.ready").touch()
    told: set[str] = set()
    for _ in range(20):
        name = generator.choice(NAMES)
        process = subprocess.Popen(
            [*WAL_G, "wal-push", str(wal / name)], env=environment(archive, data), stderr=subprocess.DEVNULL
        )
        time.sleep(generator.uniform(0, 0.25))
        process.kill()
        if process.wait() == 0:
            told.add(name)
        present = check_archive(archive, wal)
        assert told <= present, "a segment that PostgreSQL was told is archived is not there"
    for name in NAMES:
        done = subprocess.run(
            [*WAL_G, "wal-push", str(wal / name)], env=environment(archive, data), check=False, capture_output=True
        )
        assert done.returncode == 0, done.stderr
    assert check_archive(archive, wal) == set(NAMES)


def test_wal_fetch_killed_at_any_moment_leaves_nothing_or_the_segment(data: Path, tmp_path: Path) -> None:
    generator = random.Random(5)
    archive = tmp_path / "archive"
    archive.mkdir()
    settings = environment(archive, data)
    subprocess.run([*WAL_G, "wal-push", str(data / "pg_wal" / NAMES[0])], env=settings, check=True, capture_output=True)
    expected = (data / "pg_wal" / NAMES[0]).read_bytes()
    target = tmp_path / "to" / "RECOVERYXLOG"
    target.parent.mkdir()
    for _ in range(20):
        process = subprocess.Popen(
            [*WAL_G, "wal-fetch", NAMES[0], str(target)], env=settings, stderr=subprocess.DEVNULL
        )
        time.sleep(generator.uniform(0, 0.15))
        process.kill()
        process.wait()
        if target.exists():
            assert target.read_bytes() == expected
            target.unlink()


def statuses(commands: list[list[str]], settings: dict[str, str]) -> list[int]:
    """Run all at once; their exit statuses in order."""
    running = [subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL) for command in commands]
    return [process.wait(60) for process in running]


def test_many_pushers_of_one_segment(data: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    settings = environment(archive, data, WALG_PREVENT_WAL_OVERWRITE="true", TOTAL_BG_UPLOADED_LIMIT="1")
    command = [*WAL_G, "wal-push", str(data / "pg_wal" / NAMES[1])]
    assert set(statuses([command] * 8, settings)) <= {0, 1}
    assert statuses([command], settings) == [0], "equal content is success"
    other = tmp_path / "other" / "pg_wal"
    shutil.copytree(data / "pg_wal", other)
    body = bytearray((other / NAMES[2]).read_bytes())
    body[9000] ^= 0xFF
    (other / NAMES[2]).write_bytes(body)
    rivals = [[*WAL_G, "wal-push", str(folder / NAMES[2])] for folder in (data / "pg_wal", other) for _ in range(3)]
    ended = statuses(rivals, settings)
    stored = read_all(lz4.decompress(BytesReader((archive / "wal_005" / f"{NAMES[2]}.lz4").read_bytes())))
    original = (data / "pg_wal" / NAMES[2]).read_bytes()
    assert stored in (original, bytes(body))
    losers = ended[:3] if stored == bytes(body) else ended[3:]
    assert 0 not in losers, "whoever was told 0 has its content in the archive"
    assert 0 in ended
