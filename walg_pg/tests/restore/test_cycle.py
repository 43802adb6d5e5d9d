"""Real servers: full backup, deltas under load, restores in every way, a replica that catches up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from walg_core.errors import EngineError
from walg_pg.cluster import Cluster, find_binaries

WalG = Callable[..., "subprocess.CompletedProcess[str]"]
SUM = "select count(*), sum(n), md5(string_agg(t, ',' order by n)) from items"


@pytest.fixture(params=[18, 15])
def binaries(request: pytest.FixtureRequest) -> Path:
    try:
        return find_binaries(request.param)
    except EngineError as error:
        pytest.skip(str(error))


class Site:
    """A primary with an archive."""

    def __init__(self, top: Path, binaries: Path, wal_g: WalG) -> None:
        self.top, self.binaries, self.run = top, binaries, wal_g
        self.archive = top / "archive"
        self.archive.mkdir()
        self.settings = {
            "WALG_FILE_PREFIX": str(self.archive),
            "WALG_COMPRESSION_METHOD": "zstd",
            "WALG_DELTA_MAX_STEPS": "6",
        }
        self.primary = self.cluster("primary", archive_mode="on", archive_command=f"{program()} wal-push %p")
        self.primary.initdb("--data-checksums")
        self.primary.own(self.archive)
        self.primary.start()

    def cluster(self, name: str, **settings: str) -> Cluster:
        data = self.top / name
        defaults = {"fsync": "off", "shared_buffers": "16MB", "max_wal_size": "64MB", "archive_mode": "off"}
        environment = {**self.settings, "PGDATA": str(data)}
        return Cluster(data, binaries=self.binaries, settings={**defaults, **settings}, environment=environment)

    def wal_g(self, *arguments: str) -> str:
        done = self.run(*arguments, **self.settings, **self.primary.client_environment())
        self.primary.own(self.archive)
        return done.stdout

    def work(self, number: int) -> None:
        first = number * 10000
        for statement in (
            f"insert into items select i, md5(i::text) from generate_series({first}, {first + 4999}) i",
            f"update items set t = t || '{number}' where n % {number + 7} = 0",
            f"delete from items where n % {number + 31} = 3",
            "vacuum items",
            f"create table extra{number} as select 1 a",
        ):
            self.primary.query(statement)

    def flush(self) -> None:
        self.primary.query("select pg_logical_emit_message(true, 'walg', 'there is something to switch')")
        segment = self.primary.query("select pg_walfile_name(pg_switch_wal())")
        deadline = time.monotonic() + 60
        while self.primary.query(f"select last_archived_wal >= '{segment}' from pg_stat_archiver") != "t":
            assert time.monotonic() < deadline, self.primary.log_tail()
            time.sleep(0.05)

    def recovered(self, name: str) -> Cluster:
        restored = self.cluster(name, restore_command=f'{program()} wal-fetch "%f" "%p"')
        (self.top / name / "recovery.signal").touch()
        restored.start(wait_for="promoted")
        return restored


def program() -> str:
    return f"{sys.executable} -m walg_core pg"


@pytest.fixture
def site(tmp_path: Path, binaries: Path, wal_g: WalG) -> Iterator[Site]:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    made = Site(tmp_path, binaries, wal_g)
    made.primary.query("create table items(n int, t text)")
    yield made
    made.primary.destroy()


@pytest.mark.slow
def test_deltas_are_restored_page_by_page(site: Site, tmp_path: Path) -> None:
    site.work(1)
    site.wal_g("backup-push", str(site.primary.data))
    for number in range(2, 6):
        site.work(number)
        site.wal_g("backup-push", str(site.primary.data))
    expected = site.primary.query(SUM)
    site.flush()
    for name, flags in {"plain": (), "reverse": ("--reverse-unpack",), "skip": ("--skip-redundant-tars",)}.items():
        site.wal_g("backup-fetch", str(tmp_path / name), "LATEST", *flags)
        with site.recovered(name) as restored:
            assert restored.query(SUM) == expected
            assert restored.query("select count(*) from pg_tables where tablename like 'extra%'") == "5"
            if (site.binaries / "pg_amcheck").exists():
                restored.run("pg_amcheck", "--all", "--install-missing", "--heapallindexed")
            restored.stop()
            restored.run("pg_checksums", "--check", "-D", str(restored.data))
    assert "OK" in site.wal_g("backup-verify", "--read-data", "all")


@pytest.mark.slow
def test_point_in_time(site: Site, tmp_path: Path) -> None:
    site.work(1)
    site.wal_g("backup-push", str(site.primary.data))
    site.work(2)
    expected, moment = site.primary.query(SUM), site.primary.query("select clock_timestamp()")
    time.sleep(0.1)
    site.work(3)
    site.wal_g("backup-push", str(site.primary.data))
    site.flush()
    data = tmp_path / "then"
    site.wal_g("backup-fetch", str(data), "LATEST", "--target-time", moment, "--target-action", "promote")
    with site.cluster("then") as restored:
        restored.start(wait_for="promoted")
        assert restored.query(SUM) == expected


@pytest.mark.slow
def test_a_remote_backup_with_a_tablespace(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    site.primary.own(place)
    site.primary.query(f"create tablespace elsewhere location '{place}'")
    site.primary.query("create table moved tablespace elsewhere as select generate_series(1, 5000) a")
    site.work(1)
    site.wal_g("backup-push")
    expected = site.primary.query(SUM)
    site.flush()
    site.wal_g("backup-fetch", str(tmp_path / "remote"), "LATEST")
    with site.recovered("remote") as restored:
        assert restored.query(SUM) == expected
        assert restored.query("select count(*) from moved") == "5000"
    assert (tmp_path / "remote" / "pg_tblspc").is_dir()


@pytest.mark.slow
def test_a_replica_catches_up(site: Site, tmp_path: Path) -> None:
    site.primary.query("create table ballast as select i, md5(i::text) t from generate_series(1, 60000) i; checkpoint")
    site.work(1)
    site.wal_g("backup-push", str(site.primary.data))
    site.flush()
    site.wal_g("backup-fetch", str(tmp_path / "replica"), "LATEST")
    replica = site.cluster("replica", restore_command=f'{program()} wal-fetch "%f" "%p"', hot_standby="on")
    (tmp_path / "replica" / "standby.signal").touch()
    with replica:
        replica.start()
        stood = replica.query("select pg_last_wal_replay_lsn()")
        replica.query("checkpoint")
        stood = replica.query("select redo_lsn from pg_control_checkpoint()")
        replica.stop()
        for number in range(2, 5):
            site.work(number)
        site.wal_g("catchup-push", str(site.primary.data), "--from-lsn", stood)
        # The replica could not follow by WAL alone: it is gone.
        expected = site.primary.query(SUM)
        site.flush()
        assert "base_" in site.wal_g("catchup-list")
        parts = list((site.archive / "catchup_005").rglob("part_*"))
        site.wal_g("catchup-fetch", str(replica.data), "LATEST")
        assert sum(part.stat().st_size for part in parts) < 12_000_000
        shutil.rmtree(replica.data / "pg_wal")
        (replica.data / "pg_wal").mkdir(mode=0o700)
        os.chown(replica.data / "pg_wal", *os.stat(replica.data)[4:6])
        replica.start()
        deadline = time.monotonic() + 60
        while replica.query(SUM) != expected:
            assert time.monotonic() < deadline, replica.log_tail()
            time.sleep(0.1)
        assert replica.query("select count(*) from ballast") == "60000"
        replica.stop()
        replica.run("pg_checksums", "--check", "-D", str(replica.data))
