"""A primary and an old copy of it: the copy catches up, starts as a replica, and has the same rows."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.errors import EngineError
from walg_pg.cluster import Cluster, find_binaries

pytestmark = pytest.mark.slow
SUM = "select count(*), md5(string_agg(v, ',' order by id)) from "
SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "max_wal_size": "64MB", "autovacuum": "off"}


class Pair:
    """A primary, and a stopped replica whose WAL since then is gone from the archive."""

    def __init__(self, top: Path, major: int) -> None:
        self.top = top
        self.wal = top / "wal"
        self.wal.mkdir()
        self.wal.chmod(0o777)
        (top / "archive").mkdir()
        archiving = {"archive_mode": "on", "archive_command": f"cp %p {self.wal}/%f"}
        self.primary = Cluster(top / "primary", binaries=find_binaries(major), settings={**SETTINGS, **archiving})
        self.primary.initdb("-k")
        self.primary.start()
        self.query = self.primary.query
        self.space("one")
        self.query("create table t as select g as id, md5(g::text) as v from generate_series(1, 60000) g")
        self.query("create table u tablespace one as select * from t where id <= 4000")
        self.query("create table going as select * from t")
        self.wal_g("backup-push", str(self.primary.data), WALG_FILE_PREFIX=str(top / "archive"))
        self.wal_g("backup-fetch", str(top / "replica"), "LATEST", WALG_FILE_PREFIX=str(top / "archive"))
        (top / "replica" / "standby.signal").touch()
        follow = {"restore_command": f"cp {self.wal}/%f %p", "hot_standby": "on", "archive_mode": "off"}
        self.replica = Cluster(top / "replica", binaries=self.primary.binaries, settings={**SETTINGS, **follow})
        self.replica.start()
        self.replica.query("checkpoint")
        self.replica.stop()

    def space(self, name: str) -> Path:
        place = self.top / f"space-{name}"
        place.mkdir()
        self.primary.own(place)
        self.query(f"create tablespace {name} location '{place}'")
        return place

    def work(self) -> None:
        """Changes of every kind; then the WAL that has them disappears from the archive."""
        for statement in (
            "update t set v = v || 'x' where id % 300 = 0",
            "insert into u select * from t where id > 59000",
            "create table late as select * from t",
            "drop table going",
            "create database other",
            "vacuum t",
            "checkpoint",
            "select pg_switch_wal()",
        ):
            self.query(statement)
        waiting = "select count(*) from pg_ls_dir('pg_wal/archive_status') name where name like '%.ready'"
        deadline = time.monotonic() + 30
        while self.query(waiting) != "0":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for segment in self.wal.iterdir():
            segment.unlink()

    def environment(self, **settings: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("WALG_", "PG"))}
        return {**own, **self.primary.client_environment(), **settings}

    def start_wal_g(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "walg_core", "pg", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**settings),
        )

    def wal_g(self, *arguments: str, **settings: str) -> None:
        process = self.start_wal_g(*arguments, **settings)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors

    def receive(self, **settings: str) -> tuple[subprocess.Popen[str], str, str]:
        """A receiver that waits (or has ended already), its address, its log so far."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        receiver = self.start_wal_g("catchup-receive", str(self.replica.data), address, **settings)
        assert receiver.stderr is not None
        log = ""
        while "Waiting" not in log and (line := receiver.stderr.readline()):
            log += line
        return receiver, address, log

    def catch_up(self, **settings: str) -> tuple[tuple[int, str], tuple[int, str]]:
        """Both commands; status and log of the receiver and of the sender."""
        receiver, address, log = self.receive(**settings)
        try:
            if "Waiting" not in log:
                return (receiver.wait(30), log), (0, "")
            sender = self.start_wal_g("catchup-send", str(self.primary.data), address, **settings)
            _, sent = sender.communicate(timeout=120)
            _, received = receiver.communicate(timeout=60)
            return (receiver.returncode, received), (sender.returncode, sent)
        finally:
            receiver.kill()
            receiver.communicate()

    def compare(self) -> None:
        """The replica starts, follows, and has what the primary has."""
        self.query("insert into t values (0, 'after all')")
        self.query("select pg_switch_wal()")
        shutil.rmtree(self.replica.data / "pg_wal")
        (self.replica.data / "pg_wal").mkdir(mode=0o700)
        self.replica.own(*(entry.resolve() for entry in (self.replica.data / "pg_tblspc").iterdir()))
        self.replica.start()
        tables = ("t", "u", "late")
        expected = [self.query(SUM + table) for table in tables]
        deadline = time.monotonic() + 60
        while [self.replica.query(SUM + table) for table in tables] != expected:
            assert time.monotonic() < deadline, self.replica.log_tail()
            time.sleep(0.1)
        assert self.replica.query("select count(*) from pg_class where relname = 'going'") == "0"
        classes = "select count(*), sum(relpages) from pg_class"
        assert self.replica.query(classes, "other") == self.query(classes, "other")
        self.replica.stop()
        self.replica.run("pg_checksums", "--check", "-D", str(self.replica.data))


@pytest.fixture(params=[18, 15])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    try:
        find_binaries(request.param)
    except EngineError as error:
        pytest.skip(str(error))
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    made = Pair(tmp_path, request.param)
    try:
        yield made
    finally:
        made.primary.destroy()
        made.replica.destroy()


def test_an_old_copy_catches_up(pair: Pair) -> None:
    pair.work()
    received, sent = pair.catch_up()
    assert (received[0], sent[0]) == (0, 0), received[1] + sent[1]
    pair.compare()


def test_encrypted_with_a_new_tablespace(pair: Pair) -> None:
    pytest.importorskip("walg_crypto_libsodium")
    place = pair.space("two")
    pair.query("create table v tablespace two as select * from t where id <= 2000")
    pair.work()
    key = {"WALG_LIBSODIUM_KEY": "0123456789abcdef0123456789abcdef"}
    received, sent = pair.catch_up(**key)
    assert (received[0], sent[0]) == (1, 1)
    # Primary and replica share this host, so the place that the primary says is taken.
    assert "link the tablespace's oid" in received[1]
    oid = pair.query("select oid from pg_tablespace where spcname = 'two'")
    (pair.top / "space-of-replica").mkdir()
    (pair.replica.data / "pg_tblspc" / oid).symlink_to(pair.top / "space-of-replica")
    received, sent = pair.catch_up(**key)
    assert (received[0], sent[0]) == (0, 0), received[1] + sent[1]
    pair.compare()
    assert len(list(place.iterdir())) == len(list((pair.top / "space-of-replica").iterdir())) == 1


def test_what_must_not_be_done(pair: Pair) -> None:
    pair.work()
    control = pair.replica.data / "global" / "pg_control"
    kept = control.read_bytes()

    def refused(**places: tuple[int, bytes]) -> str:
        changed = bytearray(kept)
        for at, value in places.values():
            changed[at : at + len(value)] = value
        control.write_bytes(changed)
        received, sent = pair.catch_up()
        assert (received[0], sent[0]) == (1, 1)
        assert control.read_bytes() == bytes(changed), "a refused catchup changes nothing"
        return sent[1]

    assert "only a replica of this very cluster" in refused(system=(0, b"\x01\x02"))
    assert "is it the replica of this server" in refused(position=(40, (1 << 50).to_bytes(8, "little")))
    assert "timeline 9" in refused(timeline=(48, (9).to_bytes(4, "little")))
    control.write_bytes(kept)
    pair.replica.start()
    received, _ = pair.catch_up()
    assert received[0] == 1
    assert "stop the replica first" in received[1]
    pair.replica.stop()
    process = pair.start_wal_g("catchup-send", str(pair.primary.data), "127.0.0.1:1")
    assert "catchup-receive on the replica first" in process.communicate(timeout=30)[1]
    assert pair.query("select count(*) from pg_stat_activity where application_name = 'wal-g'") == "0"


def test_killed_and_repeated(pair: Pair) -> None:
    """Whichever side is killed, the other one fails, the replica does not start, and a second run brings it up."""
    pair.work()
    control = pair.replica.data / "global" / "pg_control"
    changed = 0
    for turn in range(8):
        receiver, address, _ = pair.receive()
        sender = pair.start_wal_g("catchup-send", str(pair.primary.data), address, WALG_DISK_RATE_LIMIT=str(8 << 20))
        assert receiver.stderr is not None
        while "Connection from" not in receiver.stderr.readline():
            pass
        time.sleep(turn * 0.1)
        victim = (receiver, sender)[turn % 2]
        victim.kill()
        for process in (receiver, sender):
            process.communicate(timeout=60)
            assert process.returncode, f"turn {turn}"
        if not control.exists():
            changed += 1
            with pytest.raises(EngineError, match="the server stopped"):
                pair.replica.start()
    assert changed
    received, sent = pair.catch_up()
    assert (received[0], sent[0]) == (0, 0), received[1] + sent[1]
    pair.compare()
