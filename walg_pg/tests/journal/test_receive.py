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
    return process.communicate(timeout=60)[1]


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


def test_a_stop_is_a_success_and_the_next_one_goes_on(primary: Cluster, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    process = receiver(primary, archive)
    wait_for_slot(primary)
    until(archive, fill(primary), process)
    assert "told to stop" in finish(process)
    assert process.returncode == 0
    between = fill(primary)
    process = receiver(primary, archive)
    until(archive, between, process)
    finish(process)
    assert process.returncode == 0
    assert whole(archive)


def whole(archive: Path) -> bool:
    """Whether no segment is missing between the first and the last."""
    names = sorted(path.name for path in (archive / "wal_005").iterdir() if len(path.name) == 24)
    numbers = [int(name[8:16], 16) * 4096 + int(name[16:], 16) for name in names]
    return numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.mark.slow
def test_a_server_that_restarts_is_waited_for(primary: Cluster, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    process = receiver(primary, archive)
    try:
        wait_for_slot(primary)
        until(archive, fill(primary), process)
        primary.query("insert into t values (1, 'in a segment that is not complete')")
        primary.stop()
        assert "received fast shutdown request" in primary.log_tail()
        assert "database system is shut down" in primary.log_tail(), "the receiver held the server up"
        primary.start()
        until(archive, fill(primary), process, 120)
        primary.stop("immediate")
        primary.start()
        until(archive, fill(primary), process, 120)
    finally:
        log = finish(process)
    assert "was interrupted, next try" in log
    assert process.returncode == 0
    assert whole(archive)
    assert not list((archive / "wal_005").glob("*.partial")), "a server that stops ends no timeline"


def test_a_slot_that_is_dropped_leaves_no_gap_unnoticed(primary: Cluster, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    process = receiver(primary, archive)
    wait_for_slot(primary)
    until(archive, fill(primary), process)
    process.send_signal(signal.SIGSTOP)
    pid = primary.query("select active_pid from pg_replication_slots")
    primary.query(f"select pg_terminate_backend({pid})")
    drop = "select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots where not active"
    deadline = time.monotonic() + 60
    while primary.query(drop) != "1":
        assert time.monotonic() < deadline
    primary.query("alter system set max_wal_size = '2MB'; ")
    primary.query("select pg_reload_conf()")
    needed = primary.data / "pg_wal" / sorted(path.name for path in (archive / "wal_005").iterdir())[-1]
    deadline = time.monotonic() + 120
    while needed.exists():
        assert time.monotonic() < deadline, "the server still has what was to be removed"
        fill(primary)
        primary.query("checkpoint")
    process.send_signal(signal.SIGCONT)
    log = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "the archive has a gap" in log


def test_another_cluster_is_refused(primary: Cluster, tmp_path: Path) -> None:
    archive, second = tmp_path / "archive", tmp_path / "second"
    archive.mkdir()
    process = receiver(primary, archive)
    try:
        wait_for_slot(primary)
        until(archive, fill(primary), process)
    finally:
        finish(process)
    with Cluster(second, binaries=primary.binaries, settings={"fsync": "off"}) as other:
        other.initdb("--wal-segsize=1")
        other.start()
        # Its WAL begins where the other's does: the very same names.
        wanted = sorted(path.name for path in (archive / "wal_005").iterdir())[-1]
        other.query("create table t(id int, v text)")
        while other.query("select pg_walfile_name(pg_current_wal_lsn())") < wanted:
            fill(other)
        refused = receiver(other, archive)
        assert "is of the cluster with system identifier" in refused.communicate(timeout=60)[1]
        assert refused.returncode == 1
        local = receiver(other, tmp_path, PGDATA=str(primary.data))
        assert "lead to another cluster" in local.communicate(timeout=60)[1]
        assert local.returncode == 1


@pytest.mark.slow
def test_deltas_are_recorded_as_wal_push_records_them(primary: Cluster, tmp_path: Path) -> None:
    archive, pushed = tmp_path / "archive", tmp_path / "pushed"
    archive.mkdir()
    pushed.mkdir()
    primary.query("alter system set wal_keep_size = '1GB'")
    primary.query("select pg_reload_conf()")
    settings = {"WALG_USE_WAL_DELTA": "true", "PGDATA": str(primary.data)}
    process = receiver(primary, archive, **settings)
    try:
        wait_for_slot(primary)
        last = ""
        while not list((archive / "wal_005").glob("*_delta")) if (archive / "wal_005").is_dir() else True:
            last = fill(primary)
            until(archive, last, process)
    finally:
        finish(process)
    data = tmp_path / "data"
    (data / "pg_wal").mkdir(parents=True)
    environment = {**os.environ, "WALG_FILE_PREFIX": str(pushed), "PGDATA": str(data), "WALG_USE_WAL_DELTA": "true"}
    environment |= {"WALG_PG_WAL_SIZE": "1", "WALG_COMPRESSION_METHOD": "none"}
    delta = next((archive / "wal_005").glob("*_delta"))
    number = int(delta.name[16:24], 16)
    # The same segments by wal-push, and the one before them, whose last record may reach into them.
    for each in range(number - 1, number + 16):
        path = primary.data / "pg_wal" / f"{delta.name[:16]}{each:08X}"
        target = data / "pg_wal" / path.name
        target.write_bytes(path.read_bytes())
        command = [sys.executable, "-m", "walg_core", "pg", "wal-push", str(target)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    assert (pushed / "wal_005" / delta.name).read_bytes() == delta.read_bytes()
