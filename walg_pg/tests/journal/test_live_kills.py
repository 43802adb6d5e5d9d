"""kill -9 under a live server: every segment that it was told is archived is there, whole; recovery gets no wrong file.

`WALG_TEST_KILLS` is the number of kills of each kind (200 before a release), `WALG_TEST_KILLS_STORAGE` `fs`, `s3` or
another storage whose distribution brings an emulator (`ssh`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from walg_core.errors import EngineError
from walg_core.pipeline import transfer
from walg_core.pipeline.reader import read_all
from walg_core.testing.contexts import make_context
from walg_pg.cluster import Cluster, find_binaries

WAL_G = f"{sys.executable} -m walg_core pg"
CLIENT = f"{sys.executable} -m walg_pg.daemon.client"
KILLS = int(os.environ.get("WALG_TEST_KILLS", "6"))
STORAGE = os.environ.get("WALG_TEST_KILLS_STORAGE", "fs")
# One attempt that is killed after 0 to 255 ms, then one that is not: PostgreSQL's own second try, without its pauses.
KILLED = """#!/bin/sh
timeout -s KILL 0.$(printf %03d $(od -An -N1 -tu1 /dev/urandom)) {command} "$@" && exit 0
echo $? >> {log}
{between}
exec {command} "$@"
"""
HELD = """#!/bin/sh
while [ -e {between} ]; do sleep 0.05; done
exec {command} "$@"
"""
PATIENT = """#!/bin/sh
for i in $(seq 300); do {command} "$@" && exit 0; sleep 0.2; done
exit 1
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest-", "test_")):
            parent.chmod(0o755)
    return tmp_path


@pytest.fixture
def storage(place: Path) -> Iterator[dict[str, str]]:
    """The settings of an empty archive."""
    if STORAGE == "fs":
        (place / "archive").mkdir()
        yield {"WALG_FILE_PREFIX": str(place / "archive")}
    else:
        with importlib.import_module(f"walg_storage_{STORAGE}.testing").emulator() as settings:
            yield dict(settings)


@contextlib.contextmanager
def server(place: Path, storage: dict[str, str], command: str, **settings: str) -> Iterator[Cluster]:
    """A server with segments of 1 MiB that archives by `command` and keeps all of its WAL to compare with."""
    try:
        binaries = find_binaries(18)
    except EngineError as error:
        pytest.skip(str(error))
    options = {"archive_mode": "on", "archive_command": command, "fsync": "off", "wal_keep_size": "100GB"}
    variables = {**storage, "PGDATA": str(place / "data"), "WALG_PG_WAL_SIZE": "1", **settings}
    with Cluster(place / "data", binaries=binaries, settings=options, environment=variables) as cluster:
        if STORAGE == "fs":
            cluster.own(place / "archive")
        cluster.initdb("--wal-segsize=1")
        cluster.start()
        cluster.query("create table t(id serial, v text)")
        yield cluster


def script(place: Path, name: str, text: str, command: str, between: str = "") -> str:
    """An executable file; its log of kills is writable by the server."""
    (place / "kills").touch()
    (place / "kills").chmod(0o666)
    path = place / name
    path.write_text(text.format(command=command, between=between, log=place / "kills"))
    path.chmod(0o755)
    return str(path)


def archive_until(cluster: Cluster, enough: Callable[[], bool], bursts: tuple[int, ...] = (1, 1, 2, 5)) -> None:
    """Bursts of segments until `enough`, then wait for the last to be archived."""
    generator = random.Random(1)
    deadline = time.monotonic() + 3600
    while not enough():
        assert time.monotonic() < deadline
        for _ in range(generator.choice(bursts)):
            rows = generator.choice((10, 1000, 5000))
            cluster.query(f"insert into t(v) select repeat(md5(i::text), 4) from generate_series(1, {rows}) i")
            cluster.query("select pg_switch_wal()")
        wait_for_archiver(cluster)


def wait_for_archiver(cluster: Cluster) -> None:
    cluster.query("insert into t(v) values ('last')")
    last = cluster.query("select pg_walfile_name(pg_switch_wal())")
    deadline = time.monotonic() + 300
    while True:
        state = cluster.query("select coalesce(last_archived_wal, '') from pg_stat_archiver")
        if state >= last:
            return
        assert time.monotonic() < deadline, f"{last} is not archived, {state}: {cluster.log_tail()}"
        time.sleep(0.05)


def check(cluster: Cluster, storage: dict[str, str]) -> int:
    """Every object is whole and equals its segment, and all that the server was told is there; how many."""
    wal = cluster.data / "pg_wal"
    told = {path.stem for path in (wal / "archive_status").glob("*.done") if len(path.stem) == 24}
    with contextlib.closing(make_context(storage)) as context:
        folder = context.primary_storage().folder("wal_005")
        stored = {info.key.partition(".")[0]: info.key for info in folder.list()}
        for name, key in stored.items():
            source = transfer.read(context, folder, key, key.partition(".")[2])
            assert read_all(source) == (wal / name).read_bytes(), name
            source.close()
    assert told <= set(stored)
    return len(told)


def kills(place: Path) -> int:
    return (place / "kills").read_text().count("137")


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["1", "32"], ids=["plain", "background"])
def test_wal_push(place: Path, storage: dict[str, str], limit: str) -> None:
    command = script(place, "push", KILLED, f"{WAL_G} wal-push") + " %p"
    with server(place, storage, command, TOTAL_BG_UPLOADED_LIMIT=limit) as cluster:
        archive_until(cluster, lambda: kills(place) >= KILLS)
        cluster.stop()
        assert check(cluster, storage)


@pytest.mark.slow
def test_wal_push_ahead(place: Path, storage: dict[str, str]) -> None:
    switch = place / "wait"
    switch.touch()
    # A burst waits until it is there as a whole, as after an outage.
    command = script(place, "push", HELD, f"{WAL_G} wal-push", str(switch)) + " %p"
    with server(place, storage, command, TOTAL_BG_UPLOADED_LIMIT="8", WALG_UPLOAD_CONCURRENCY="2") as cluster:
        killed: list[int] = []
        stop = threading.Event()
        killer = threading.Thread(target=_keep_killing, args=("wal-push-ahead", str(cluster.data), stop, killed))
        killer.start()
        try:
            deadline = time.monotonic() + 3600
            while len(killed) < KILLS:
                assert time.monotonic() < deadline
                switch.touch()
                for _ in range(30):
                    cluster.query("insert into t(v) select repeat(md5(i::text), 4) from generate_series(1, 300) i")
                    cluster.query("select pg_switch_wal()")
                switch.unlink()
                wait_for_archiver(cluster)
        finally:
            stop.set()
            killer.join()
        cluster.stop()
        assert check(cluster, storage)


@pytest.mark.slow
def test_the_daemon(place: Path, storage: dict[str, str]) -> None:
    path = place / "s"
    command = script(place, "ask", PATIENT, f"{CLIENT} {path} wal-push") + " %f"
    with server(place, storage, command) as cluster:
        variables = {**cluster.environment(), "WALG_LOG_LEVEL": "ERROR"}
        argv = [*cluster.command("postgres")[:-1], *WAL_G.split(), "daemon", str(path)]
        cluster.own(place)
        place.chmod(0o755)
        enough = threading.Event()
        done: list[int] = []

        def keep_killing() -> None:
            generator = random.Random(7)
            while not enough.is_set():
                process = subprocess.Popen(argv, env=variables, cwd="/")
                while not answers(path) and process.poll() is None:
                    time.sleep(0.02)
                enough.wait(generator.uniform(0, 0.6))
                process.kill()
                done.append(process.wait())

        killer = threading.Thread(target=keep_killing)
        killer.start()
        try:
            archive_until(cluster, lambda: len(done) >= KILLS)
        finally:
            enough.set()
            killer.join()
        assert set(done) == {-signal.SIGKILL}
        daemon = subprocess.Popen(argv, env=variables, cwd="/")
        try:
            wait_for_archiver(cluster)
            cluster.stop()
        finally:
            daemon.terminate()
            daemon.wait(90)
        assert check(cluster, storage)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


@pytest.mark.slow
def test_wal_fetch_and_prefetch(place: Path, storage: dict[str, str]) -> None:
    with server(place, storage, f"{WAL_G} wal-push %p") as cluster:
        copy = place / "copy"
        copy.mkdir(mode=0o700)
        cluster.own(copy)
        cluster.run("pg_basebackup", "-D", str(copy), "-c", "fast", "-X", "none")
        before = cluster.query("select pg_walfile_name(pg_current_wal_lsn())")
        # Every segment is one chance to kill, and not every kill comes in time.
        for _ in range(KILLS * 2 + 4):
            cluster.query("insert into t(v) select repeat(md5(i::text), 4) from generate_series(1, 3000) i")
            cluster.query("select pg_switch_wal()")
        wait_for_archiver(cluster)
        question = "select count(*), md5(string_agg(id || v, ',' order by id)) from t"
        expected = cluster.query(question)
        cluster.stop()
        check(cluster, storage)
    settings = {
        # PostgreSQL itself removes what lies there before it asks.
        "restore_command": script(place, "fetch", KILLED, f"{WAL_G} wal-fetch", 'rm -f "$2"') + " %f %p",
        "archive_mode": "off",
        "fsync": "off",
    }
    variables = {**storage, "PGDATA": str(copy), "WALG_PG_WAL_SIZE": "1", "HOME": str(place)}
    (copy / "recovery.signal").touch()
    restored = Cluster(copy, binaries=cluster.binaries, settings=settings, environment=variables)
    stop = threading.Event()
    killer = threading.Thread(target=_keep_killing, args=("wal-prefetch", str(copy), stop, []))
    with restored:
        killer.start()
        try:
            restored.start(timeout=3600, wait_for="promoted")
        finally:
            stop.set()
            killer.join()
        assert restored.query(question) == expected
        log = restored.log_file.read_text(errors="replace")
    assert log.count("restored log file") >= KILLS, before
    assert "invalid magic number" not in log
    assert "unexpected pageaddr" not in log


def _keep_killing(command: str, data: str, stop: threading.Event, killed: list[int]) -> None:
    """kill -9 what runs detached for this cluster, at random moments; their process numbers go to `killed`."""
    generator = random.Random(11)
    marker = f"PGDATA={data}".encode()
    while not stop.wait(generator.uniform(0.02, 0.3)):
        for process in os.listdir("/proc"):
            if not process.isdigit():
                continue
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                ours = words[0] == sys.executable.encode() and command.encode() in words
                if ours and marker in Path(f"/proc/{process}/environ").read_bytes():
                    os.kill(int(process), signal.SIGKILL)
                    killed.append(int(process))
