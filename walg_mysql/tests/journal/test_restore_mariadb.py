"""`restore` in one command: to a moment and to a transaction between two others, row by row."""

from __future__ import annotations

import re
import signal
import time

import pytest

pytestmark = pytest.mark.services
OPTIONS = ("--log-bin=mysql-bin", "--binlog-format=ROW")


def rows(server) -> list[int]:
    return [row[0] for row in server.run("select id from app.t order by id")]


@pytest.fixture
def history(field):
    """A full backup, an increment, and writes before, between and after; returns the server and the marks."""
    server = field.server("data", *OPTIONS)
    restored = field.path / "restored"
    restored.mkdir()
    field.aim(server, restored)
    field.environment |= {"WALG_DELTA_MAX_STEPS": "3", "TZ": "UTC"}
    server.run("create database app", "create table app.t (id int primary key) engine=InnoDB")
    marks = {}

    def write(first: int) -> None:
        server.run(*(f"insert into app.t values ({number})" for number in range(first, first + 5)))

    write(1)
    field.run("xtrabackup-push")
    write(11)
    server.run("flush binary logs")
    field.run("binlog-push")
    field.run("xtrabackup-push", "--full=false")
    write(21)
    marks["gtid"] = server.run("select @@gtid_binlog_pos")[0][0]
    server.run("insert into app.t values (50)")
    time.sleep(1.1)
    marks["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    marks["before"] = rows(server)
    server.run("insert into app.t values (99)", "flush binary logs", "insert into app.t values (100)")
    field.run("binlog-push")
    return server, marks, restored


def restore(field, restored, *words: str, status: int = 0) -> tuple[str, str]:
    """Into `restored`, started as a second server by the start command."""
    made = field.server(f"unused{len(field.servers)}", server_id=9)
    made.stop()
    start = (
        f"exec mariadbd --no-defaults --user=root --datadir={restored} --port={made.port} --bind-address=127.0.0.1 "
        f"--socket={restored}.sock --server-id=9 --innodb-buffer-pool-size=32M --skip-name-resolve"
    )
    pidfile = f"{restored}.pid"
    field.restored = made
    made.data = restored
    try:
        return field.run(
            "restore", *words, status=status,
            WALG_MYSQL_DATASOURCE_NAME=f"root@tcp(127.0.0.1:{made.port})/mysql",
            WALG_MYSQL_START_COMMAND=f"({start} --pid-file={pidfile} >{restored}.log 2>&1 </dev/null &)",
            WALG_MYSQL_BINLOG_REPLAY_COMMAND=f"mariadb-binlog - | mariadb -h 127.0.0.1 -P {made.port} -u root",
        )  # fmt: skip
    finally:
        field.pidfile = pidfile


@pytest.fixture(autouse=True)
def stopped(field):
    yield
    import os
    from pathlib import Path

    pidfile = Path(getattr(field, "pidfile", "/nonexistent"))
    if pidfile.exists():
        os.kill(int(pidfile.read_text()), signal.SIGTERM)
        until = time.monotonic() + 30
        while pidfile.exists() and time.monotonic() < until:
            time.sleep(0.1)


def test_to_a_moment(field, history) -> None:
    _, marks, restored = history
    plan = field.run("restore", "--target-time", marks["time"], "--dry-run")[0]
    assert re.search(r"fetch   \S+ \(full.*\n  fetch   \S+ \(increment", plan)
    assert "complete: yes" in plan
    assert list(restored.iterdir()) == []
    restore(field, restored, "--target-time", marks["time"])
    assert rows(field.restored) == marks["before"]


def test_to_a_transaction(field, history) -> None:
    _, marks, restored = history
    restore(field, restored, "--target-gtid", marks["gtid"])
    assert rows(field.restored) == [number for number in marks["before"] if number != 50]


def test_all_that_is_archived(field, history) -> None:
    _, marks, restored = history
    restore(field, restored)
    assert rows(field.restored) == sorted([*marks["before"], 99])


def test_what_is_not_archived_is_said_before_anything_is_fetched(field, history) -> None:
    _, _, restored = history
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    assert "complete: no" in field.run("restore", "--target-time", later, "--dry-run")[0]
    error = restore(field, restored, "--target-time", later, status=1)[1]
    assert "WALG_MYSQL_FLUSH_BINLOGS" in error
    assert "not in the archived binlogs" in restore(field, restored, "--target-gtid", "0-1-9999", status=1)[1]
    assert "no backup" in restore(field, restored, "--target-time", "2001-01-01T00:00:00Z", status=1)[1]
    assert list(restored.iterdir()) == []


def test_a_missing_binlog_is_named(field, history) -> None:
    _, marks, restored = history
    archived = sorted((field.archive / "binlog_005").iterdir())
    archived[-1].rename(field.path / "away")
    error = restore(field, restored, "--target-time", marks["time"], status=1)[1]
    assert "is not in the archive" in error
    assert list(restored.iterdir()) == []


def test_the_archive_of_the_original_is_replayed_to_its_end(field, golden) -> None:
    """Its second backup and everything after it."""
    from pathlib import Path

    restored = field.path / "restored"
    restored.mkdir()
    field.environment |= {
        "WALG_FILE_PREFIX": str(golden("mariadb-zstd")),
        "WALG_STREAM_RESTORE_COMMAND": f"mbstream -x -C {restored}",
        "WALG_MYSQL_BACKUP_PREPARE_COMMAND": f"mariadb-backup --prepare --target-dir={restored}",
        "WALG_MYSQL_DATA_DIR": str(restored),
    }
    restore(field, restored)
    expected = Path(__file__).resolve().parents[4] / "shared" / "golden" / "mariadb-zstd" / "expected.txt"
    row = field.restored.run(
        "set group_concat_max_len = 100000000", "select count(*), md5(group_concat(id,v order by id)) from shop.o"
    )[0]
    assert "\t".join(map(str, row)) == expected.read_text().strip()
