"""Full and incremental backups of a real MariaDB under load, restored in three ways and compared row by row."""

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pymysql
import pytest
from walg_core.backups.catalog import SENTINEL_SUFFIX
from walg_mysql.sentinel import Sentinel

pytestmark = pytest.mark.services

ROWS = "SELECT COUNT(*), COALESCE(SUM(CRC32(CONCAT(id, '/', n, '/', MD5(filler)))), 0) FROM shop.t"


COUNTS = (
    "SELECT (SELECT SUM(n) FROM shop.new2), (SELECT COUNT(*) FROM shop.small), (SELECT SUM(CRC32(t)) FROM shop.pressed)"
)


def prepare(server: Any) -> None:
    server.run(
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, n INT, filler VARCHAR(2000), KEY (n)) ENGINE=InnoDB",
        "CREATE TABLE shop.log (id INT PRIMARY KEY AUTO_INCREMENT, t VARCHAR(100)) ENGINE=Aria",
        "INSERT INTO shop.t (n, filler) SELECT seq, REPEAT(MD5(seq), 30) FROM shop.seq_1_to_3000",
        "INSERT INTO shop.log (t) VALUES ('begin')",
    )


@contextmanager
def load(server: Any) -> Iterator[None]:
    """Writers that go on while a backup runs."""
    stop = threading.Event()

    def work(seed: int) -> None:
        random = Random(seed)
        connection = server.connect()
        with connection.cursor() as cursor:
            while not stop.is_set():
                at = random.randrange(1, 3000)
                try:
                    cursor.execute("INSERT INTO shop.t (n, filler) VALUES (%s, REPEAT(MD5(%s), 20))", (at, at))
                    cursor.execute("UPDATE shop.t SET n = n + 1 WHERE id BETWEEN %s AND %s", (at, at + 20))
                except pymysql.err.OperationalError:
                    # A deadlock between two writers.
                    continue
        connection.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def wipe(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()


def restored_rows(field: Any, name: str) -> Any:
    """Start a server on restored data; its rows and that it finds its tables whole."""
    server = field.server(name, fresh=False)
    try:
        checks = server.run("CHECK TABLE shop.t EXTENDED")
        assert checks[-1][-1] == "OK", checks
        return server.run(ROWS)[0], server.run("SELECT GROUP_CONCAT(t ORDER BY id) FROM shop.log")[0][0]
    finally:
        server.stop()


# Pages are written soon, so that increments have some: what is only in the redo log comes back in any case.
FLUSHING = (
    "--innodb-max-dirty-pages-pct=0",
    "--innodb-max-dirty-pages-pct-lwm=0",
    "--innodb-flush-log-at-trx-commit=0",
)
WAYS = {
    "classic": [],
    "in process": ["--use-xbtool-extract"],
    "in place": ["--use-xbtool-extract", "--inplace"],
}


def test_a_chain_of_increments_under_load_comes_back_in_every_way(field: Any) -> None:
    server = field.server("data", "--log-bin=mysql-bin", *FLUSHING)
    prepare(server)
    restored = field.path / "restored"
    field.aim(server, restored)
    field.environment |= {"WALG_DELTA_MAX_STEPS": "5"}
    expected = []
    for number in range(4):
        with load(server):
            time.sleep(0.4)
            if number == 1:
                server.run(
                    "CREATE TABLE shop.new1 LIKE shop.t",
                    "INSERT INTO shop.new1 SELECT * FROM shop.t LIMIT 500",
                    "CREATE TABLE shop.old (id INT PRIMARY KEY) ENGINE=InnoDB",
                    "CREATE TABLE shop.pressed (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB PAGE_COMPRESSED=1",
                    "INSERT INTO shop.pressed SELECT seq, REPEAT(MD5(seq), 40) FROM shop.seq_1_to_1000",
                )
            if number == 2:
                server.run(
                    "RENAME TABLE shop.new1 TO shop.new2",
                    "UPDATE shop.new2 SET n = -1 WHERE id < 100",
                    "DROP TABLE shop.old",
                    "CREATE TABLE shop.small (id INT PRIMARY KEY) ENGINE=InnoDB ROW_FORMAT=COMPRESSED",
                )
            if number == 3:
                server.run("UPDATE shop.pressed SET t = CONCAT(t, 'more') WHERE id % 7 = 0")
                server.run("INSERT INTO shop.small SELECT seq FROM shop.seq_1_to_1000", "OPTIMIZE TABLE shop.new2")
            if number < 3:
                field.run("xtrabackup-push", "--full=false")
        if number < 3:
            continue
        server.run("INSERT INTO shop.log (t) VALUES ('end')")
        expected = [server.run(ROWS)[0], server.run("SELECT GROUP_CONCAT(t ORDER BY id) FROM shop.log")[0][0]]
        field.run("xtrabackup-push", "--full=false")
    counts = server.run(COUNTS)[0]
    server.stop()
    names = field.names()
    made = [
        Sentinel.decode((field.archive / f"basebackups_005/{name}{SENTINEL_SUFFIX}").read_bytes()) for name in names
    ]
    assert [(each.incremental, each.delta_count, each.delta_from, each.delta_full_name) for each in made] == [
        (False, 0, "", ""),
        (True, 1, names[0], names[0]),
        (True, 2, names[1], names[0]),
        (True, 3, names[2], names[0]),
    ]
    assert all(younger.lsn > older.lsn for older, younger in pairwise(made) if younger.lsn and older.lsn), made
    assert [each.delta_lsn for each in made[1:]] == [each.lsn for each in made[:-1]]
    for title, words in WAYS.items():
        wipe(restored)
        _, said = field.run("backup-fetch", names[-1], *words)
        changed = [int(found) for found in re.findall(r"(\d+) tablespaces changed in place", said)]
        assert len(changed) == (3 if "--inplace" in words else 0)
        assert all(changed)
        again = field.server("restored", fresh=False)
        assert again.run(COUNTS)[0] == counts, title
        assert counts[1] == 1000
        again.stop()
        assert list(restored_rows(field, "restored")) == expected, title
        assert not list((field.path / "increments").iterdir())
        wipe(restored)
        field.run("backup-fetch", names[1], *words)
        assert restored_rows(field, "restored")[0][0] >= 3000


def test_a_restored_server_begins_with_a_full_backup(field: Any) -> None:
    server = field.server("data", *FLUSHING)
    prepare(server)
    restored = field.path / "restored"
    field.aim(server, restored)
    field.environment |= {"WALG_DELTA_MAX_STEPS": "5"}
    field.run("xtrabackup-push", "--full=false")
    server.run("INSERT INTO shop.t (n) VALUES (1)")
    field.run("xtrabackup-push", "--full=false")
    server.stop()
    wipe(restored)
    field.run("backup-fetch", field.names()[0], "--use-xbtool-extract")
    again = field.server("restored", *FLUSHING, fresh=False)
    field.aim(again, restored)
    again.run("INSERT INTO shop.t (n, filler) SELECT seq, REPEAT('x', 900) FROM shop.seq_1_to_3000")
    _, said = field.run("xtrabackup-push", "--full=false")
    assert "making a full backup" in said
    field.run("xtrabackup-push", "--full=false")
    made = [Sentinel.decode(path.read_bytes()) for path in sorted(field.archive.rglob(f"*{SENTINEL_SUFFIX}"))]
    assert [each.incremental for each in made] == [False, True, False, True]


def test_killed_at_random_moments_there_is_no_sentinel_without_a_restorable_backup(field: Any) -> None:
    server = field.server("data", *FLUSHING)
    prepare(server)
    restored = field.path / "restored"
    field.aim(server, restored)
    began = time.monotonic()
    field.run("backup-push")
    whole = time.monotonic() - began
    random = Random(7)
    for _ in range(15):
        process = field.popen("backup-push")
        time.sleep(random.uniform(0.3, whole * 1.1))
        process.kill()
        process.communicate(timeout=60)
    names = field.names()
    expected = server.run(ROWS)[0]
    server.stop()
    for name in names:
        wipe(restored)
        field.run("backup-fetch", name, "--use-xbtool-extract")
        assert restored_rows(field, "restored")[0] == expected
