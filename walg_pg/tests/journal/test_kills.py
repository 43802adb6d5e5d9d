"""kill -9 and rivals: what PostgreSQL was told is archived is there, whole; nothing wrong is ever handed out."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from walg_core.compression.lz4 import compressor as lz4
from walg_core.errors import EngineError
from walg_core.io.atomic import is_temporary
from walg_core.pipeline.reader import BytesReader, read_all
from walg_pg.cluster import Cluster, find_binaries

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


@pytest.mark.slow
def test_a_server_keeps_archiving_while_its_commands_are_killed(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest-", "test_")):
            parent.chmod(0o755)
    archive = tmp_path / "archive"
    archive.mkdir()
    try:
        binaries = find_binaries(18)
    except EngineError as error:
        pytest.skip(str(error))
    command = " ".join([*WAL_G, "wal-push", "%p"])
    settings = {"archive_mode": "on", "archive_command": command, "fsync": "off", "wal_keep_size": "4GB"}
    variables = {"WALG_FILE_PREFIX": str(archive), "PGDATA": str(tmp_path / "data"), "WALG_PG_WAL_SIZE": "1"}
    with Cluster(tmp_path / "data", binaries=binaries, settings=settings, environment=variables) as cluster:
        cluster.own(archive)
        cluster.initdb("--wal-segsize=1")
        cluster.start()
        stop = threading.Event()
        killed = threading.Thread(target=_killer, args=(str(tmp_path / "data"), stop))
        killed.start()
        cluster.query("create table t(v text)")
        for _ in range(20):
            cluster.query("insert into t select repeat(md5(i::text), 20) from generate_series(1, 4000) i")
        last = cluster.query("select pg_walfile_name(pg_switch_wal())")
        stop.set()
        killed.join()
        deadline = time.monotonic() + 120
        while cluster.query(f"select last_archived_wal >= '{last}' from pg_stat_archiver") != "t":
            assert time.monotonic() < deadline, cluster.log_tail()
            time.sleep(0.2)
        cluster.stop()
        status = tmp_path / "data" / "pg_wal" / "archive_status"
        told = {path.stem for path in status.glob("*.done") if len(path.stem) == 24}
        assert told <= check_archive(archive, tmp_path / "data" / "pg_wal")
        assert len(told) > 20


def _killer(data: str, stop: threading.Event) -> None:
    """kill -9 the wal-push processes of this cluster at random moments."""
    generator = random.Random(11)
    marker = f"PGDATA={data}".encode()
    while not stop.is_set():
        time.sleep(generator.uniform(0.02, 0.3))
        for process in os.listdir("/proc"):
            if not process.isdigit():
                continue
            try:
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                # The server's own command line names wal-push too, as its archive_command.
                ours = words[0] == sys.executable.encode() and b"wal-push" in words
                if ours and marker in Path(f"/proc/{process}/environ").read_bytes():
                    os.kill(int(process), signal.SIGKILL)
            except OSError:
                continue
