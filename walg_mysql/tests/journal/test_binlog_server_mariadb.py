"""The binlog server against real clients: a MariaDB replica by GTID and by position, `mariadb-binlog`, wrong logins."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import time

import pymysql
import pytest

pytestmark = pytest.mark.services
OPTIONS = ("--log-bin=mysql-bin", "--binlog-format=ROW")


def rows(server) -> list[int]:
    return [row[0] for row in server.run("select id from app.t order by id")]


@pytest.fixture
def archive(field):
    """A history of several binlogs, one in the middle ended by a restart, archived; returns server and replica."""
    server = field.server("data", *OPTIONS)
    field.aim(server, field.path / "none")
    field.environment |= {"TZ": "UTC", "WALG_STREAM_CREATE_COMMAND": "echo nothing"}
    field.run("backup-push")
    server.run("create database app", "create table app.t (id int primary key, b longblob) engine=InnoDB")
    for first in (1, 11, 21):
        server.run(*(f"insert into app.t values ({number}, 'x')" for number in range(first, first + 5)))
        server.run("flush binary logs")
    server.stop()
    server.start()
    server.run("insert into app.t values (50, repeat('z', 3000000))", "flush binary logs")
    field.run("binlog-push")
    replica = field.server("replica", server_id=2)
    return server, replica


def serve(field, replica, *words: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    prefix = "WALG_MYSQL_BINLOG_SERVER_"
    process = field.popen(
        "binlog-server", *words,
        **{
            prefix + "HOST": "127.0.0.1", prefix + "PORT": str(port), prefix + "USER": "walg",
            prefix + "PASSWORD": "s3cret", prefix + "ID": "77", prefix + "REPLICA_SOURCE": replica.dsn,
        },
    )  # fmt: skip
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return process, port
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.1)
    raise AssertionError("it does not listen")


@pytest.mark.parametrize("how", ["gtid", "position"])
def test_a_replica_catches_up(field, archive, how) -> None:
    server, replica = archive
    process, port = serve(field, replica)
    first = field.run("binlog-list")[0].splitlines()[1].split()[0]
    where = "master_use_gtid=slave_pos" if how == "gtid" else f"master_log_file='{first}', master_log_pos=4"
    replica.run(
        f"change master to master_host='127.0.0.1', master_port={port}, master_user='walg', "
        f"master_password='s3cret', {where}",
        "start slave",
    )
    _, err = (data.decode() for data in process.communicate(timeout=60))
    state = replica.run("show slave status")
    assert process.returncode == 0, (err, state)
    assert rows(replica) == rows(server)
    assert "everything that was asked for" in err


def test_a_replica_stops_at_the_time(field, archive) -> None:
    server, replica = archive
    time.sleep(1.1)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1.1)
    before = rows(server)
    server.run("insert into app.t values (99, 'late')", "flush binary logs")
    field.run("binlog-push")
    process, port = serve(field, replica, "--until", until)
    replica.run(
        f"change master to master_host='127.0.0.1', master_port={port}, master_user='walg', "
        "master_password='s3cret', master_use_gtid=slave_pos",
        "start slave",
    )
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert rows(replica) == before


def test_mariadb_binlog_reads_from_it(field, archive) -> None:
    server, replica = archive
    process, port = serve(field, replica)
    first = field.run("binlog-list")[0].splitlines()[1].split()[0]
    words = ["mariadb-binlog", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-uwalg", "-ps3cret"]
    done = subprocess.run(
        [*words, "--read-from-remote-server", "--to-last-log", first], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    with replica.connect() as connection:
        client = subprocess.run(
            ["mariadb", "-h127.0.0.1", f"-P{replica.port}", "-uroot", "--binary-mode"], input=done.stdout, check=True
        )
        assert connection
        assert client.returncode == 0
    assert rows(replica) == rows(server)
    missing = subprocess.run(
        [*words, "--read-from-remote-server", "other-bin.000001"], capture_output=True, timeout=60, check=False
    )
    assert missing.returncode != 0
    assert b"Could not find first log file" in missing.stderr
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) != 0


def test_a_client_that_does_not_wait_is_told_the_end(field, archive) -> None:
    """By the flag, or, as `mysqlbinlog` of MySQL 5.6 does it, by server id 0."""
    _, replica = archive
    process, port = serve(field, replica)
    first = field.run("binlog-list")[0].splitlines()[1].split()[0]
    for flags, server_id in ((1, 5), (0, 0)):
        with pymysql.connect(host="127.0.0.1", port=port, user="walg", password="s3cret") as client:
            client._execute_command(18, struct.pack("<IHI", 4, flags, server_id) + first.encode())
            count = 0
            while not client._read_packet().is_eof_packet():
                count += 1
            assert count > 20
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=30)


def test_strangers_are_refused_and_do_no_harm(field, archive) -> None:
    _, replica = archive
    process, port = serve(field, replica)
    for user, password in (("walg", "wrong"), ("other", "s3cret"), ("walg", "")):
        with pytest.raises(pymysql.err.OperationalError) as refused:
            pymysql.connect(host="127.0.0.1", port=port, user=user, password=password)
        assert refused.value.args[0] == 1045
    for rubbish in (b"", b"GET / HTTP/1.0\r\n\r\n", bytes(100), b"\xff" * 5000):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(rubbish)
    with pymysql.connect(host="127.0.0.1", port=port, user="walg", password="s3cret") as good:
        cursor = good.cursor()
        cursor.execute("SELECT @@global.server_id")
        assert cursor.fetchall() == (("77",),)
        cursor.execute("select version()")
        assert "MariaDB" in cursor.fetchone()[0]
        good.ping(reconnect=False)
    assert process.poll() is None
    process.terminate()
    err = process.communicate(timeout=30)[1].decode()
    assert "s3cret" not in err


def test_a_missing_setting_is_named(field, archive) -> None:
    assert "WALG_MYSQL_BINLOG_SERVER" in field.run("binlog-server", status=1)[1]
