"""wal-restore with real servers: what pg_rewind fails without, and what it finds in pg_waldump's words."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.errors import EngineError
from walg_pg.cluster import Cluster, find_binaries
from walg_pg.journal.checkpoints import last_checkpoint
from walg_pg.journal.history import Switch
from walg_pg.journal.place import read_control
from walg_pg.journal.restore import common_point
from walg_pg.lsn import parse_lsn, segment_name

WAL_G = [sys.executable, "-m", "walg_core", "pg"]
MIB = 1 << 20
SETTINGS = {
    "fsync": "off",
    "archive_mode": "on",
    "archive_command": " ".join([*WAL_G, "wal-push", "%p"]),
    "max_wal_size": "4MB",
    "min_wal_size": "2MB",
    "wal_log_hints": "on",
    "hot_standby": "on",
    "checkpoint_timeout": "1h",
}


def variables(archive: Path, data: Path) -> dict[str, str]:
    return {"WALG_FILE_PREFIX": str(archive), "PGDATA": str(data), "WALG_PG_WAL_SIZE": "1"}


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Cluster]:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest-", "test_")):
            parent.chmod(0o755)
    (tmp_path / "archive").mkdir()
    data = tmp_path / "old"
    try:
        binaries = find_binaries(18)
    except EngineError as error:
        pytest.skip(str(error))
    with Cluster(
        data, binaries=binaries, settings=SETTINGS, environment=variables(tmp_path / "archive", data)
    ) as cluster:
        cluster.own(tmp_path / "archive")
        cluster.initdb("--wal-segsize=1")
        cluster.start()
        cluster.query("create table t(id int, v text)")
        yield cluster


def until(what, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def fill(server: Cluster, segments: int) -> str:
    """Write about that many segments of one MiB, and wait until they are archived; the last one's name."""
    for _ in range(segments):
        server.query("insert into t select i, repeat(md5(i::text), 20) from generate_series(1, 1000) i")
    last = server.query("select pg_walfile_name(pg_switch_wal())")
    until(lambda: server.query(f"select last_archived_wal >= '{last}' from pg_stat_archiver") == "t")
    return last


def forget(data: Path, keep: str) -> None:
    """Remove all segments before `keep`, as the server does once they are archived and too many."""
    for path in (data / "pg_wal").iterdir():
        if len(path.name) == 24 and path.name[8:] < keep[8:]:
            path.unlink()


@pytest.mark.slow
def test_pg_rewind_works_again_with_what_it_fetches(primary: Cluster, tmp_path: Path) -> None:
    archive, copy = tmp_path / "archive", tmp_path / "new"
    copy.mkdir(mode=0o700)
    primary.own(copy)
    primary.run("pg_basebackup", "-D", str(copy), "-c", "fast", "-X", "stream")
    conninfo = f"host={primary.socket_directory} port={primary.port} user=postgres"
    settings = {**SETTINGS, "primary_conninfo": conninfo}
    with Cluster(copy, binaries=primary.binaries, settings=settings, environment=variables(archive, copy)) as standby:
        (copy / "standby.signal").touch()
        standby.start()
        primary.query("checkpoint")
        fill(primary, 4)
        lsn = primary.query("select pg_current_wal_lsn()")
        until(lambda: standby.query(f"select pg_last_wal_replay_lsn() >= '{lsn}'") == "t")
        standby.query("select pg_promote()")
        until(lambda: standby.query("select not pg_is_in_recovery()") == "t")
        standby.query("checkpoint")
        # Both go their own way, and lose the WAL that they have in common.
        primary.query("insert into t values (-1, 'lost')")
        fill(primary, 3)
        primary.stop()
        standby.query("insert into t values (-2, 'kept')")
        current = fill(standby, 3)
        standby.query("checkpoint")
        control = read_control(str(primary.data))
        assert control
        forget(primary.data, segment_name(1, control[1] // MIB, MIB))
        forget(copy, current)
        rewind = ["--target-pgdata", str(primary.data), "--source-server", f"{_conninfo(standby)} dbname=postgres"]
        with pytest.raises(EngineError, match=r"could not open file|could not find previous WAL record"):
            primary.run("pg_rewind", *rewind, "--dry-run")
        # As the server's user: what root fetched into a running server's directory would be handed over too.
        command = [*primary.command("postgres")[:-1], *WAL_G, "wal-restore", str(primary.data), str(copy)]
        environment = {**os.environ, **variables(archive, copy)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (again.returncode, "No WAL files to restore" in again.stderr) == (0, True)
        primary.run("pg_rewind", *rewind)
        (primary.data / "standby.signal").touch()
        primary.settings["primary_conninfo"] = _conninfo(standby)
        primary.start(wait_for="consistent")
        lsn = standby.query("select pg_current_wal_lsn()")
        until(lambda: primary.query(f"select pg_last_wal_replay_lsn() >= '{lsn}'") == "t")
        question = "select id, count(*), md5(string_agg(v, ',' order by v)) from t where id < 10 group by 1 order by 1"
        assert primary.query(question) == standby.query(question)
        assert primary.query("select v from t where id < 0") == "kept"
        primary.stop()


def _conninfo(server: Cluster) -> str:
    return f"host={server.socket_directory} port={server.port} user=postgres"


def test_the_same_checkpoints_as_pg_waldump_shows(primary: Cluster) -> None:
    primary.query("alter system set wal_keep_size = '1GB'")
    primary.query("select pg_reload_conf()")
    for _ in range(3):
        primary.query("insert into t select i, repeat(md5(i::text), 20) from generate_series(1, 1000) i")
        primary.query("checkpoint")
        primary.query("checkpoint")
        primary.query("insert into t select i, repeat(md5(i::text), 20) from generate_series(1, 1000) i")
    primary.stop()
    checked = 0
    for path in sorted((primary.data / "pg_wal").glob("00000001????????????????")):
        number = int(path.name[8:16], 16) * 4096 + int(path.name[16:], 16)
        shown = subprocess.run(
            primary.command("pg_waldump", "--rmgr=XLOG", str(path)),
            env=primary.environment(),
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        lines = [line for line in shown.splitlines() if "desc: CHECKPOINT_" in line and "redo" in line]
        found = [
            (parse_lsn(line.split("lsn: ")[1].split(",")[0]), parse_lsn(line.split("redo ")[1].split(";")[0]))
            for line in lines
        ]
        data = path.read_bytes()
        last = last_checkpoint(data, number * MIB, 8192, 1 << 62)
        assert (found[-1] if found else None) == last
        if len(found) > 1:
            assert last_checkpoint(data, number * MIB, 8192, found[-1][0]) == found[-2]
        checked += len(found)
    assert checked >= 7


def test_the_common_point_of_two_histories() -> None:
    shared = [Switch(1, 100), Switch(2, 200)]
    assert common_point([*shared, Switch(3, 300)], [*shared, Switch(3, 400)]) == 300
    assert common_point(shared, [*shared, Switch(3, 400)]) == 400
    assert common_point([], [Switch(1, 100)]) == 100
