"""Whole cycles with real servers."""

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis


def fill(client: Any, count: int = 200) -> None:
    """Keys of every type, one in another database, one that expires."""
    pipe = client.pipeline()
    for number in range(count):
        pipe.set(f"text{number}", f"value {number}")
        pipe.rpush(f"list{number}", *range(number % 30 + 1))
        pipe.sadd(f"set{number}", *range(number % 30 + 1))
        pipe.zadd(f"sorted{number}", {str(each): each * 1.5 for each in range(number % 30 + 1)})
        pipe.hset(f"hash{number}", mapping={str(each): "x" * each for each in range(number % 30 + 1)})
        pipe.xadd(f"stream{number}", {"a": str(number)}, id=f"{number + 1}-1")
        pipe.setbit(f"bits{number}", number, 1)
        pipe.pfadd(f"counter{number}", number)
        if number % 500 == 499:
            pipe.execute()
    pipe.set("binary", bytes(range(256)))
    pipe.set("expires", "later", ex=100000)
    pipe.execute()


def digest(client: Any) -> str:
    return str(client.execute_command("DEBUG", "DIGEST"))


def rewrite(client: Any) -> None:
    """Have the AOF rewritten, and wait for it. The server may just be rewriting it by itself."""

    def busy() -> bool:
        found = client.info("persistence")
        return bool(found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])

    while True:
        while busy():
            time.sleep(0.01)
        try:
            client.bgrewriteaof()
            break
        except redis.ResponseError:
            continue
    while busy():
        time.sleep(0.01)


DEBUG = ("--enable-debug-command", "yes")
PROMPT = ("--appendfsync", "no")
"""What is acknowledged is written: with `everysec` a server may hold it back for two seconds while it syncs."""


@pytest.mark.parametrize("options", [("--repl-diskless-sync", "yes"), ("--repl-diskless-sync", "no")])
def test_rdb_over_the_replication_protocol(field: Any, options: tuple[str, ...]) -> None:
    source = field.server("source", *DEBUG, *options)
    field.aim(source)
    fill(source.client)
    before = digest(source.client)
    field.run("backup-push", "--permanent", "--add-user-data", '{"b":1,"a":[2]}')
    (name,) = field.names()
    sentinel = json.loads((field.path / f"archive/basebackups_005/{name}_backup_stop_sentinel.json").read_text())
    assert list(sentinel) == [
        "BackupName", "StartLocalTime", "FinishLocalTime", "UserData", "Permanent", "DataSize", "BackupSize",
        "BackupType", "UsedMemory", "UsedMemoryRss", "MaxDBNumber", "TSStartTime", "TSFinishTime",
    ]  # fmt: skip
    target = field.server("target", *DEBUG)
    target.client.set("old", "data")
    target.stop()
    field.run("backup-fetch", "LATEST", WALG_REDIS_DATA_PATH=str(target.data))
    target.start()
    assert digest(target.client) == before
    assert target.client.get("old") is None


def test_rdb_through_commands(field: Any) -> None:
    source = field.server("source")
    field.aim(source)
    fill(source.client)
    field.environment["WALG_STREAM_CREATE_COMMAND"] = f"{field.client} -p {source.port} --rdb -"
    field.run("backup-push")
    target = field.path / "target"
    target.mkdir()
    (target / "dump.rdb").write_bytes(b"old")
    (target / "appendonlydir").mkdir()
    (target / "appendonlydir/x").write_bytes(b"old")
    _, err = field.run(
        "backup-fetch", "LATEST", "--skip-checks", status=1,
        WALG_REDIS_DATA_PATH=str(target), WALG_STREAM_RESTORE_COMMAND=f"head -c 100 > {target}/dump.rdb; exit 3",
    )  # fmt: skip
    assert "exit status 3" in err
    assert (target / "dump.rdb").read_bytes() == b"old"
    assert (target / "appendonlydir/x").read_bytes() == b"old"
    field.run(
        "backup-fetch", "LATEST",
        WALG_REDIS_DATA_PATH=str(target), WALG_STREAM_RESTORE_COMMAND=f"cat > {target}/dump.rdb",
    )  # fmt: skip
    assert sorted(path.name for path in target.iterdir()) == ["dump.rdb"]
    restored = field.server("target")
    assert restored.client.dbsize() == source.client.dbsize()


def test_aof_while_it_is_rewritten(field: Any) -> None:
    source = field.server("source", *DEBUG, "--appendonly", "yes", *PROMPT)
    field.aim(source)
    fill(source.client)
    stop = threading.Event()
    written = [0]

    def work() -> None:
        while not stop.is_set():
            written[0] += 1
            source.client.set(f"live{written[0]}", written[0])
            if written[0] % 200 == 0:
                try:
                    source.client.bgrewriteaof()
                except Exception:
                    time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    held = []
    try:
        for _ in range(3):
            held.append(written[0] - 1)
            field.run("backup-push", "--type", "aof", "--permanent")
    finally:
        stop.set()
        thread.join()
    version = json.loads(field.run("backup-info", "LATEST")[0])[0]["Version"]
    assert list((source.data / "pinned").iterdir()) == []
    for at, name in enumerate(field.names()):
        target = field.path / f"target{at}"
        field.run("backup-fetch", name, "--type", "aof", "--redis-version", version, WALG_REDIS_DATA_PATH=str(target))
        restored = field.server(f"target{at}", "--appendonly", "yes")
        assert restored.client.get("text7") == "value 7"
        assert restored.client.xlen("stream3") == 1
        for number in range(1, held[at]):
            assert restored.client.get(f"live{number}") == str(number)
        restored.stop()


def test_versions_and_types(field: Any) -> None:
    source = field.server("source", "--appendonly", "yes")
    field.aim(source)
    source.client.set("a", "b")
    field.run("backup-push", "--type", "aof")
    (name,) = field.names()
    target = field.path / "target"
    words = ("backup-fetch", name, "--type", "aof")
    where = {"WALG_REDIS_DATA_PATH": str(target)}
    _, err = field.run(*words, status=1, **where)
    assert "--redis-version is required" in err
    _, err = field.run(*words, "--redis-version", "6.2.1", status=1, **where)
    assert "could not be restored to version 6.2.1" in err
    _, err = field.run("backup-fetch", name, status=1, **where)
    assert "is of type aof, not rdb" in err
    _, err = field.run("backup-fetch", "LATEST", status=1, **where)
    assert "No backups found" in err
    _, err = field.run(*words, "--redis-version", "99", status=1)
    assert "is running in" in err
    assert not target.exists()


def test_servers_that_do_not_help(field: Any) -> None:
    source = field.server("source", "--requirepass", "secret")
    field.aim(source)
    _, err = field.run("backup-push", status=1)
    assert "set WALG_REDIS_PASSWORD" in err
    _, err = field.run("backup-push", status=1, WALG_REDIS_PASSWORD="wrong-one")
    assert "check WALG_REDIS_USERNAME and WALG_REDIS_PASSWORD" in err
    assert "wrong-one" not in err
    field.run("backup-push", WALG_REDIS_PASSWORD="secret")
    _, err = field.run("backup-push", "--type", "aof", status=1, WALG_REDIS_PASSWORD="secret")
    assert "is appendonly switched on" in err
    _, err = field.run("backup-push", "--type", "other", status=1)
    assert "must be one of rdb, aof, rdb_ts, aof_ts, ts" in err
    _, err = field.run("backup-push", status=1, WALG_REDIS_PORT="1")
    assert "check WALG_REDIS_HOST and WALG_REDIS_PORT" in err
    _, err = field.run("backup-push", status=1, WALG_REDIS_DATA_PATH="/nowhere", WALG_STREAM_CREATE_COMMAND="false")
    assert "exit status 1" in err
    assert len(field.names()) == 1
    field.run("backup-push", WALG_REDIS_PASSWORD="secret", WALG_STREAM_CREATE_COMMAND='echo "$REDISCLI_AUTH"')
    assert len(list((field.path / "archive/basebackups_005").glob("*/stream*"))) == 2


def test_a_socket_and_an_acl_user(field: Any) -> None:
    path = field.path / "s"
    source = field.server("source", "--unixsocket", str(path))
    field.aim(source)
    source.client.execute_command("ACL", "SETUSER", "backup", "on", ">pw", "+psync", "+replconf", "+ping")
    source.client.set("a", "b")
    field.run(
        "backup-push", WALG_REDIS_SOCKET=str(path), WALG_REDIS_USERNAME="backup", WALG_REDIS_PASSWORD="pw",
        WALG_REDIS_PORT="1",
    )  # fmt: skip
    assert len(field.names()) == 1


def test_full_disk_stops_an_aof_backup(field: Any) -> None:
    source = field.server("source", "--appendonly", "yes")
    field.aim(source)
    source.client.set("a", "b")
    _, err = field.run("backup-push", "--type", "aof", status=1, WALG_REDIS_DATA_THRESHOLD="0")
    assert "disk is filled above limit" in err
    assert "WALG_REDIS_DATA_THRESHOLD" in err
    assert field.names() == []
    assert [p for p in (field.path / "archive").rglob("*") if p.is_file()] == []


def test_torn_and_foreign_data_is_refused(field: Any) -> None:
    source = field.server("source", "--appendonly", "yes")
    field.aim(source)
    fill(source.client, 20)
    field.run("backup-push", WALG_COMPRESSION_METHOD="none")
    target = field.path / "target"
    target.mkdir()
    (target / "dump.rdb").write_bytes(b"old data")
    (name,) = field.names()
    stored = field.path / f"archive/basebackups_005/{name}/stream"
    whole = stored.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for data in (whole[:-30], whole[:100], b"", bytes(damaged), b"x" * len(whole), whole + b"more"):
        stored.write_bytes(data)
        field.run("backup-fetch", name, status=1, WALG_REDIS_DATA_PATH=str(target))
        assert (target / "dump.rdb").read_bytes() == b"old data"
        assert [path.name for path in target.iterdir()] == ["dump.rdb"]
    stored.write_bytes(whole)
    field.run("backup-fetch", name, "--keep-old", WALG_REDIS_DATA_PATH=str(target))
    assert (target / "dump.rdb").read_bytes() == whole
    (kept,) = target.glob("wal-g-old-*")
    assert (kept / "dump.rdb").read_bytes() == b"old data"


def test_golden_archive(field: Any, golden: Callable[[str], Path]) -> None:
    prefix = {"WALG_FILE_PREFIX": str(golden("redis-brotli"))}
    out, _ = field.run("backup-list", **prefix)
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["stream_20261122T120909Z", "aof_20261122T120915Z"]
    for kind, options in (("rdb", ()), ("aof", ("--appendonly", "yes"))):
        target = field.path / f"golden-{kind}"
        field.run(
            "backup-fetch", "LATEST", "--type", kind, "--redis-version", "7.0.15",
            WALG_REDIS_DATA_PATH=str(target), **prefix,
        )  # fmt: skip
        server = field.server(f"golden-{kind}", *options)
        assert server.client.dbsize() == 300
        assert all(server.client.get(f"k{number}") == f"v{number}" for number in range(1, 301))
        server.stop()
    _, err = field.run("delete", "--retain-count", "1", "--purge-garbage", **prefix)
    assert "Backups selected to be retained: [aof_20261122T120915Z stream_20261122T120909Z]" in err
    assert "Garbage prefixes in backups folder: [stream_20261122T120855Z]" in err


KEYS = int(os.environ.get("WALG_TEST_KEYS", "20000"))
"""How many keys the largest test has; a million was tried by hand, with each server and type of backup."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rdb", "aof"])
def test_many_keys_of_all_types_under_writes(field: Any, kind: str) -> None:
    """The frozen keys come back to the last byte; of the live ones, each is at or after its value at the beginning."""
    options = (*DEBUG, "--appendonly", "yes" if kind == "aof" else "no", *PROMPT)
    source = field.server("source", *options)
    field.aim(source)
    source.client.execute_command("DEBUG", "POPULATE", KEYS // 2, "key", 100)
    fill(source.client, KEYS // 16)
    if kind == "aof":
        # What DEBUG POPULATE makes is not in the AOF before it is rewritten.
        rewrite(source.client)
    written = [0] * 1000
    stop = threading.Event()

    def work() -> None:
        number = 1
        with contextlib.closing(source.connect()) as client:
            while not stop.is_set():
                client.set(f"live{number % 1000}", number)
                written[number % 1000] = number
                number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while not all(written):
            time.sleep(0.01)
        before = list(written)
        field.run("backup-push", "--type", kind)
    finally:
        stop.set()
        thread.join()
    words = ("--type", kind, "--redis-version", "99") if kind == "aof" else ()
    field.run("backup-fetch", "LATEST", *words, WALG_REDIS_DATA_PATH=str(field.path / "target"))
    restored = field.server("target", *options)
    values = restored.client.mget([f"live{number}" for number in range(1000)])
    assert all(int(value) >= least for value, least in zip(values, before, strict=True))
    for each in (source, restored):
        each.client.delete(*(f"live{number}" for number in range(1000)))
    assert digest(restored.client) == digest(source.client)


def stopped_with_pins(field: Any, source: Any) -> "subprocess.Popen[str]":
    """An AOF backup that holds still while it packs what it has pinned. One that was too fast is made again."""
    copy = source.data / "pinned/appendonly.aof.manifest"
    for _ in range(10):
        push: subprocess.Popen[str] = field.popen("backup-push", "--type", "aof", WALG_DISK_RATE_LIMIT="4000000")
        while push.poll() is None and not copy.exists():
            time.sleep(0.005)
        push.send_signal(signal.SIGSTOP)
        if push.poll() is None and copy.exists():
            return push
        push.send_signal(signal.SIGCONT)
        assert push.wait(180) == 0, push.communicate()[1]
    raise AssertionError("every backup had ended before it could be stopped")


@pytest.mark.slow
@pytest.mark.parametrize("field", ["redis8"], indirect=True)
def test_fifty_rewrites_during_one_backup_lose_nothing(field: Any) -> None:
    source = field.server("source", *DEBUG, "--appendonly", "yes")
    field.aim(source)
    for number in range(20):
        source.client.set(f"large{number}", random.Random(number).randbytes(500_000).hex())
    fill(source.client)
    before = digest(source.client)
    push = stopped_with_pins(field, source)
    for _ in range(50):
        rewrite(source.client)
    push.send_signal(signal.SIGCONT)
    assert push.wait(180) == 0, push.communicate()[1]
    version = json.loads(field.run("backup-info", "LATEST")[0])[0]["Version"]
    target = field.path / "target"
    field.run("backup-fetch", "LATEST", "--type", "aof", "--redis-version", version, WALG_REDIS_DATA_PATH=str(target))
    restored = field.server("target", *DEBUG, "--appendonly", "yes")
    assert digest(restored.client) == before
    assert list((source.data / "pinned").iterdir()) == []


@pytest.mark.parametrize("told", ["by the files", "by the configuration", "by the flag"])
def test_an_rdb_for_a_server_with_appendonly(field: Any, told: str) -> None:
    source = field.server("source", *DEBUG)
    field.aim(source)
    fill(source.client)
    if told == "by the flag":
        # Leaves the mark of a diskless transfer behind the RDB.
        field.environment["WALG_STREAM_CREATE_COMMAND"] = f"{field.client} -p {source.port} --rdb -"
    field.run("backup-push")
    options = (*DEBUG, "--appendonly", "yes")
    target = field.server("target", *(options if told == "by the files" else DEBUG))
    target.client.set("old", "data")
    target.stop()
    target.options = options
    configuration = field.path / "redis.conf"
    configuration.write_text(f'# a comment\ndir "{target.data}"\nappendonly no\nappendonly yes\nrename-command x ""\n')
    where = {"WALG_REDIS_DATA_PATH": str(target.data)}
    if told == "by the configuration":
        where["WALG_REDIS_CONF_PATH"] = str(configuration)
    words = ("--with-aof",) if told == "by the flag" else ()
    _, err = field.run("backup-fetch", "LATEST", *words, **where)
    assert "not read the restored RDB" not in err
    for _ in range(2):
        target.start()
        assert digest(target.client) == digest(source.client)
        target.client.set("later", "1")
        source.client.set("later", "1")
        target.stop()


def test_an_rdb_that_a_server_may_not_read_is_warned_of(field: Any) -> None:
    source = field.server("source")
    field.aim(source)
    field.run("backup-push")
    target = field.path / "target"
    where = {"WALG_REDIS_DATA_PATH": str(target), "WALG_REDIS_CONF_PATH": str(field.path / "redis.conf")}
    assert "should the server have `appendonly yes`" in field.run("backup-fetch", "LATEST", **where)[1]
    (field.path / "redis.conf").write_text(f"dir {target}\n")
    assert "appendonly" not in field.run("backup-fetch", "LATEST", **where)[1]
    command = {"WALG_STREAM_RESTORE_COMMAND": f"cat > {target}/dump.rdb"}
    (field.path / "redis.conf").write_text(f"dir {target}\nappendonly yes\n")
    assert "will not read the restored RDB" in field.run("backup-fetch", "LATEST", **where, **command)[1]
    (field.path / "redis.conf").write_text("dir /elsewhere\nappendonly yes\n")
    assert "should the server" in field.run("backup-fetch", "LATEST", "--skip-clean", **where)[1]


def test_a_killed_aof_backup_lists_nothing_and_its_links_are_freed(field: Any) -> None:
    source = field.server("source", "--appendonly", "yes")
    field.aim(source)
    for number in range(20):
        source.client.set(f"large{number}", random.Random(number).randbytes(500_000).hex())
    push = stopped_with_pins(field, source)
    second = field.popen("backup-push", "--type", "aof")
    assert second.wait(180) == 1
    assert "another backup has its links" in second.communicate()[1]
    push.kill()
    push.wait(180)
    before = len(field.names())
    left = {path.name for path in (source.data / "pinned").iterdir()}
    assert "appendonly.aof.1.base.rdb" in left
    rewrite(source.client)
    assert not (source.data / "appendonlydir/appendonly.aof.1.base.rdb").exists()
    field.run("backup-push", "--type", "aof")
    assert list((source.data / "pinned").iterdir()) == []
    assert len(field.names()) == before + 1
    _, err = field.run(
        "backup-push", "--type", "aof", status=1,
        WALG_REDIS_APPENDONLY_TEMP_MANIFEST=str(source.data / "appendonlydir"),
    )  # fmt: skip
    assert "is the AOF directory itself" in err
    assert (source.data / "appendonlydir/appendonly.aof.manifest").exists()


def test_a_push_without_a_command_is_cold(field: Any) -> None:
    """Neither the application nor the client library is imported: together they cost five times the whole backup."""
    source = field.server("source")
    field.aim(source)
    field.run("backup-push", "--type", "rdb")
    process = field.popen("backup-push", "--type", "rdb", "--permanent", PYTHONPROFILEIMPORTTIME="1")
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines() if line.startswith("import time:")}
    costly = {"asyncio", "dataclasses", "datetime", "json", "logging", "pydantic", "re", "redis", "selectors", "socket",
              "ssl", "subprocess", "tempfile", "typer", "typing"}  # fmt: skip
    assert "walg_redis.backup.replication" in imported
    assert sorted(imported & costly) == []
