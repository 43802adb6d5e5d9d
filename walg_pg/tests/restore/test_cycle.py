"""Real servers: full backup, deltas under load, restores in every way, a replica that catches up."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

Site = Any
SUM = "select count(*), sum(n), md5(string_agg(t, ',' order by n)) from items"


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
    replica = site.cluster("replica", restore_command=f'{site.program} wal-fetch "%f" "%p"', hot_standby="on")
    (tmp_path / "replica" / "standby.signal").touch()
    with replica:
        replica.start()
        stood = replica.query("select pg_last_wal_replay_lsn()")
        replica.query("checkpoint")
        stood = replica.query("select redo_lsn from pg_control_checkpoint()")
        replica.stop()
        for number in range(2, 5):
            site.work(number)
        site.wal_g("catchup-push", str(site.primary.data), "--from-lsn", "0/F0000000")
        with pytest.raises(AssertionError, match="would be missing"):
            site.wal_g("catchup-fetch", str(replica.data), "LATEST")
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
