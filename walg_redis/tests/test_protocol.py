"""The client of the server's protocol, against a peer that answers as it is told: real servers do not misbehave."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.errors import EngineError, IntegrityError
from walg_redis.backup.replication import RdbTail, ReplicationReader
from walg_redis.connection import Address, facts_of
from walg_redis.resp import Connection, Refused

RDB = b"REDIS0011" + bytes(range(256)) * 40 + b"\xff" + bytes(8)
MARK = b"0123456789abcdef0123456789abcdef01234567"
HELLO = [b"+PONG\r\n"]
BEFORE = [*HELLO, b"+OK\r\n", b"+OK\r\n"]


class Peer:
    """Answers every request with the next of `answers`, in pieces of `step` bytes, and then closes, or holds still."""

    def __init__(self, path: Path, answers: list[bytes], *, step: int = 1 << 20, hold: bool = False) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.answers, self.step, self.hold = answers, step, hold
        self.asked: list[bytes] = []
        self.over = threading.Event()
        self.address = Address("h", 1, str(path), "default", "", 0, None, 60.0)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            for answer in self.answers:
                request = connection.recv(4096)
                if not request:
                    return
                self.asked.append(request)
                for at in range(0, len(answer), self.step):
                    connection.sendall(answer[at : at + self.step])
            if self.hold:
                self.over.wait(180)

    def close(self) -> None:
        self.over.set()
        self.thread.join(180)
        self.listener.close()


Make = Callable[..., Peer]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Make]:
    made: list[Peer] = []

    def make(*answers: bytes, **options: int) -> Peer:
        made.append(Peer(tmp_path / f"s{len(made)}", list(answers), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


def everything(source: RdbTail) -> bytes:
    out = b""
    while piece := source.read(1000):
        out += piece
    source.close()
    return out


@pytest.mark.parametrize("step", [1, 7, 39, 41, 4096, 1 << 20])
@pytest.mark.parametrize("diskless", [False, True])
def test_an_rdb_comes_whole_in_whatever_pieces(peer: Make, step: int, diskless: bool) -> None:
    body = b"$EOF:" + MARK + b"\r\n" + RDB + MARK if diskless else b"$%d\r\n" % len(RDB) + RDB
    there = peer(*BEFORE, b"\n\n+FULLRESYNC abc 0\r\n\n" + body, step=step)
    assert everything(RdbTail(ReplicationReader(Connection(there.address)))) == RDB
    assert there.asked[-1] == b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (
            [b"+PONG\r\n", b"-ERR x\r\n", b"-ERR y\r\n", b"-NOMASTERLINK not in sync\r\n"],
            "does not replicate to us: NOMA",
        ),
        ([*BEFORE, b"+CONTINUE\r\n"], "does not replicate to us: CONTINUE"),
        ([*BEFORE, b"+FULLRESYNC a 0\r\n$x\r\n"], "answers PSYNC with"),
        ([*BEFORE, b"+FULLRESYNC a 0\r\n"], "broke off: it closed the connection"),
        ([*BEFORE, b"+FULLRESYNC a 0\r\n$EOF:" + MARK + b"\r\n" + RDB], "broke off"),
        ([*BEFORE, b"+FULLRESYNC a 0\r\n$%d\r\n" % len(RDB) + RDB[:-1]], "broke off"),
        ([b"-NOAUTH Authentication required.\r\n"], "set WALG_REDIS_PASSWORD|wants a password"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak the Redis protocol"),
        ([b"x" * 10000], "does not speak the Redis protocol"),
        ([b"$99999999999\r\n"], "does not speak the Redis protocol"),
        ([b"*1\r\n" * 10], "does not speak the Redis protocol"),
        ([b""], "broke off"),
    ],
)
def test_peers_that_misbehave(peer: Make, answers: list[bytes], match: str) -> None:
    with pytest.raises(EngineError, match=match):
        everything(RdbTail(ReplicationReader(Connection(peer(*answers).address))))


def test_what_is_no_rdb_is_noticed(peer: Make) -> None:
    for data in (b"", b"x" * 5000, RDB[:-9] + bytes(9)):
        there = peer(*BEFORE, b"+FULLRESYNC a 0\r\n$%d\r\n" % len(data) + data)
        with pytest.raises(IntegrityError, match="did not send a whole RDB"):
            everything(RdbTail(ReplicationReader(Connection(there.address))))


def test_answers(peer: Make) -> None:
    there = peer(*HELLO, b"*3\r\n:-7\r\n$-1\r\n*1\r\n$4\r\na\r\nb\r\n", b"-ERR no\r\n", b"$0\r\n\r\n", step=2)
    server = Connection(there.address)
    assert server.ask("X", "\udcff é") == [-7, None, [b"a\r\nb"]]
    assert there.asked[1] == b"*2\r\n$1\r\nX\r\n$4\r\n\xff \xc3\xa9\r\n"
    with pytest.raises(Refused, match="ERR no"):
        server.ask("Y")
    assert server.ask("Z") == b""
    server.close()


def test_facts(peer: Make, capsys: pytest.CaptureFixture[str]) -> None:
    memory = b"# Memory\r\nused_memory:5\r\nused_memory_rss:x\r\n"
    keyspace = b"# Keyspace\r\ndb0:keys=1\r\ndb12:keys=1\r\ndbx:1\r\n"
    answers = [b"$%d\r\n" % len(each) + each + b"\r\n" for each in (memory, keyspace)]
    server = Connection(peer(*HELLO, *answers).address)
    assert facts_of(server) == (5, 0, 12)
    server.close()
    refusing = Connection(peer(*HELLO, b"-NOPERM no\r\n").address)
    assert facts_of(refusing) == (0, 0, 0)
    refusing.close()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_answer_is_an_answer_or_an_error(data: bytes) -> None:
    server = Connection.__new__(Connection)
    server.where = Address("h", 1, "", "default", "", 0, None, 1.0)
    server._buffer = data
    ours, theirs = socket.socketpair()
    server._socket = ours
    theirs.close()
    try:
        server._answer()
    except EngineError:
        pass
    finally:
        ours.close()


def test_an_interruption_wakes_a_push_that_waits_for_a_silent_server(peer: Make, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    info = b"$3\r\nx:1\r\n"
    there = peer(
        b"+PONG\r\n", info, info, b"+OK\r\n", b"+OK\r\n", b"+FULLRESYNC a 0\r\n$5000000\r\nREDIS0011", hold=True
    )
    push = subprocess.Popen(
        [sys.executable, "-c", "from walg_redis.script import main; main()", "backup-push"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "WALG_FILE_PREFIX": str(tmp_path / "archive"),
             "WALG_REDIS_SOCKET": there.address.socket},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    while len(there.asked) < 6:
        assert push.poll() is None
        time.sleep(0.01)
    push.send_signal(signal.SIGTERM)
    _, err = push.communicate(timeout=180)
    assert push.returncode == 1
    assert b"interrupted" in err
    assert [path for path in (tmp_path / "archive").rglob("*") if path.is_file()] == []
