"""wal-receive against real servers: slots, segment after segment, a standby that is promoted under it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.errors import EngineError
from walg_pg.cluster import Cluster, find_binaries


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Cluster]:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest-", "test_")):
            parent.chmod(0o755)
    try:
        cluster = Cluster(
            tmp_path / "primary", binaries=find_binaries(18), settings={"fsync": "off", "hot_standby": "on"}
        )
    except EngineError as error:
        pytest.skip(str(error))
    with cluster:
        cluster.initdb("--wal-segsize=1")
        cluster.start()
        cluster.query("create table t(id int, v text)")
        yield cluster


def receiver(server: Cluster, archive: Path, **settings: str) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "PG"))}
    environment = {
        **inherited,
        **server.client_environment(),
        "WALG_FILE_PREFIX": str(archive),
        "WALG_PG_WAL_SIZE": "1",
        "WALG_COMPRESSION_METHOD": "none",
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "walg_core", "pg", "wal-receive"], env=environment, stderr=subprocess.PIPE, text=True
    )


def until(archive: Path, name: str, process: subprocess.Popen[str], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not (archive / "wal_005" / name).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"{name} did not arrive: {process.communicate()[1]}")
        time.sleep(0.05)


def wait_for_slot(server: Cluster) -> None:
    deadline = time.monotonic() + 30
    while server.query("select count(*) from pg_replication_slots where active") != "1":
        assert time.monotonic() < deadline, "the slot was not used"
        time.sleep(0.05)


def finish(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=30)[1]


def fill(server: Cluster) -> str:
    """More than a segment of WAL; the name of the last segment that is complete."""
    server.query("insert into t select i, repeat(md5(i::text), 20) from generate_series(1, 5000) i")
    return server.query("select pg_walfile_name(pg_switch_wal())")


def test_segments_arrive_byte_for_byte_and_the_slot_follows(primary: Cluster, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    primary.query("alter system set wal_keep_size = '1GB'")
    primary.query("select pg_reload_conf()")
    process = receiver(primary, archive)
    try:
        wait_for_slot(primary)
        last = fill(primary)
        until(archive, last, process)
        for path in (archive / "wal_005").iterdir():
            assert path.read_bytes() == (primary.data / "pg_wal" / path.name).read_bytes()
        deadline = time.monotonic() + 15
        while primary.query("select restart_lsn >= pg_current_wal_lsn() - 1048576 from pg_replication_slots") != "t":
            assert time.monotonic() < deadline, "the slot does not follow"
            time.sleep(0.05)
        second = receiver(primary, archive)
        assert "in use by another receiver" in second.communicate(timeout=30)[1]
        assert second.returncode == 1
    finally:
        finish(process)


def test_a_promoted_standby_is_followed_to_its_new_timeline(primary: Cluster, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    primary.run("pg_basebackup", "-D", "/tmp/" + primary.socket_directory.name + "/copy", "-c", "fast", "-X", "stream")
    copy = primary.socket_directory / "copy"
    conninfo = f"host={primary.socket_directory} port={primary.port} user=postgres"
    with Cluster(copy, binaries=primary.binaries, settings={"primary_conninfo": conninfo, "fsync": "off"}) as standby:
        (copy / "standby.signal").touch()
        standby.start()
        process = receiver(standby, archive)
        try:
            wait_for_slot(standby)
            last = fill(primary)
            until(archive, last, process)
            primary.query("insert into t values (0, 'in the segment that is left half full')")
            lsn = primary.query("select pg_current_wal_lsn()")
            while standby.query(f"select pg_last_wal_replay_lsn() >= '{lsn}'") != "t":
                time.sleep(0.05)
            standby.query("select pg_promote()")
            until(archive, "00000002.history", process)
            after = fill(standby)
            assert after.startswith("00000002")
            until(archive, after, process)
            names = sorted(path.name for path in (archive / "wal_005").iterdir())
            assert any(name.endswith(".partial") and name.startswith("00000001") for name in names)
            assert all(
                path.stat().st_size == 1 << 20
                for path in (archive / "wal_005").glob("0*0*[!y]")
                if "history" not in path.name
            )
        finally:
            log = finish(process)
        assert "timeline 2" in log
    shutil.rmtree(copy, ignore_errors=True)


def test_a_bad_slot_name_is_refused_before_anything(primary: Cluster, tmp_path: Path) -> None:
    process = receiver(primary, tmp_path, WALG_SLOTNAME="my-slot")
    assert "WALG_SLOTNAME" in process.communicate(timeout=30)[1]
    assert process.returncode == 1
