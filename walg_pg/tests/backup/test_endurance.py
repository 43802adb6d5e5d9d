"""Heavier proof: kills at many points, many relations, standbys, load."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time

import pytest
from walg_pg.cluster import Cluster

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("WALG_TEST_PUSH_KILLS", "12"))


def test_kill_at_many_points_never_leaves_half_a_backup(site) -> None:
    keep = site.push("--full")
    chance = random.Random(4)
    finished = 0
    for _ in range(KILLS):
        before = set(site.names())
        process = site.start_wal_g("backup-push", str(site.data), WALG_UPLOAD_DISK_CONCURRENCY="2")
        time.sleep(chance.uniform(0.05, 0.9))
        process.kill()
        process.communicate()
        new = set(site.names()) - before
        finished += len(new)
        for name in new:
            listed = site.json(name, "files_metadata.json")["TarFileSets"]
            assert listed.keys() <= site.tars(name).keys()
    assert finished < KILLS
    deadline = time.monotonic() + 30
    while site.in_backup():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    expected = site.contents()
    assert site.restored(site.push()) == expected
    assert keep in site.names()
    site.wal_g("delete", "garbage", "BACKUPS", "--confirm")
    assert site.restored(keep)[0].startswith("20000|"), "an old backup is no worse for it"
    assert site.restored(site.push("--full")) == expected
    # Nothing that was killed still counts as running, so a deletion takes what it left.
    site.wal_g("delete", "retain", "FULL", "1", "--confirm")
    folder = site.archive / "basebackups_005"
    objects = [path for path in folder.rglob("*") if path.is_file() and ".tmp." not in path.name]
    owners = {path.relative_to(folder).parts[0].removesuffix("_backup_stop_sentinel.json") for path in objects}
    assert owners == set(site.names())


def test_ten_thousand_relations_with_load(site) -> None:
    for start in range(0, 10_000, 1000):
        loop = f"for i in {start}..{start + 999} loop execute format('create table many_%s (id int)', i); end loop;"
        site.query(f"do $$ begin {loop} end $$")
    stop = threading.Event()

    def load() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            site.query(f"create table coming_{turn} as select * from t limit 2000")
            site.query(f"update t set v = v || 'x' where id % 100 = {turn % 100}")
            site.query(f"truncate coming_{turn}")
            site.query(f"drop table coming_{turn}")

    thread = threading.Thread(target=load)
    thread.start()
    try:
        full = site.push("--full", WALG_UPLOAD_DISK_CONCURRENCY="2")
        deltas = [site.push(WALG_DELTA_MAX_STEPS="9", WALG_USE_WAL_SUMMARIES=way) for way in ("false", "true")]
    finally:
        stop.set()
        thread.join()
    last = site.push("--verify", WALG_DELTA_MAX_STEPS="9")
    assert [site.json(name)["DeltaFrom"] for name in (*deltas, last)] == [full, *deltas]
    assert site.restored(last) == site.contents()


def test_memory_is_bounded(site) -> None:
    site.query("create table big as select g, repeat(md5(g::text), 30) as v from generate_series(1, 400000) g")
    site.query("checkpoint")
    try:
        script = (
            "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:]); "
            "_, status, usage = os.wait4(p.pid, 0); print(usage.ru_maxrss); sys.exit(status != 0)"
        )
        import sys

        command = [sys.executable, "-m", "walg_core", "pg", "backup-push", str(site.data), "--full"]
        done = subprocess.run(
            [sys.executable, "-c", script, *command],
            env=site.environment(WALG_UPLOAD_DISK_CONCURRENCY="2"),
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) < 150 * 1024
    finally:
        site.query("drop table big")


def test_backup_of_a_standby(site, tmp_path) -> None:
    name = site.push("--full")
    root = site.root / "standby"
    site.wal_g("backup-fetch", str(root), name)
    (root / "standby.signal").touch()
    root.chmod(0o700)
    settings = {"restore_command": f"cp {site.wal}/%f %p", "hot_standby": "on", "archive_mode": "off", "fsync": "off"}
    with Cluster(root, binaries=site.cluster.binaries, settings=settings) as standby:
        site.cluster.own(root)
        standby.start()
        variables = {**standby.client_environment()}
        before = set(site.names())
        # The standby starts from the last checkpoint that it replayed, which names the backup: a new one is needed.
        for statement in ("select pg_switch_wal()", "create table later()", "checkpoint", "select pg_switch_wal()"):
            site.query(statement)
        deadline = time.monotonic() + 60
        while not _pushed(site, str(root), variables):
            assert time.monotonic() < deadline, site.wal_g("backup-push", str(root), check=False, **variables).stderr
            time.sleep(0.5)
        (made,) = [each for each in set(site.names()) - before if site.json(each)["DataDir"] == str(root)]
    assert site.json(made)["LSN"] <= site.json(made)["FinishLSN"]
    # Recovery stops at the first record after the end of the backup, so there has to be one.
    for statement in ("create table after_all()", "select pg_switch_wal()"):
        site.query(statement)
    time.sleep(2)
    assert site.restored(made)[0].startswith("20000|")


def _pushed(site, directory: str, variables: dict[str, str]) -> bool:
    done = site.wal_g("backup-push", directory, check=False, **variables)
    return done.returncode == 0
