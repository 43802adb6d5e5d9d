"""The etcd engine: WAL files of every kind of directory, and a real server where Debian's is installed."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# Another release than the system's: a directory with etcd, etcdctl and etcdutl.
if extra := os.environ.get("WALG_TEST_ETCD"):
    os.environ["PATH"] = f"{extra}:{os.environ['PATH']}"
SERVER = shutil.which("etcd")
PATIENCE = 180
"""Seconds; a loaded machine is slow, and a test that waits for a condition ends when it is met."""
needs_server = pytest.mark.skipif(not SERVER or not shutil.which("etcdctl"), reason="etcd-server is not installed")


class Field:
    """An archive, and a way to run the engine's own script."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "archive").mkdir()
        self.wal = path / "data/member/wal"
        self.environment = dict(os.environ) | {
            "WALG_FILE_PREFIX": str(path / "archive"),
            "WALG_ETCD_DATA_DIR": str(path / "data"),
            "ETCDCTL_API": "3",
        }

    def run(self, *words: str, status: int = 0, **more: str) -> tuple[str, str]:
        script = "import walg_etcd.journal.push as p, os; p.cache_path = lambda: os.environ['CACHE'];"
        done = subprocess.run(
            [sys.executable, "-c", script + "from walg_etcd.script import main; main()", *words],
            env=self.environment | {"CACHE": str(self.path / "cache")} | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr

    def write(self, *sequences: int, cluster: str = "a") -> None:
        shutil.rmtree(self.wal, ignore_errors=True)
        self.wal.mkdir(parents=True)
        for sequence in sequences:
            (self.wal / f"{sequence:016x}-{sequence * 100:016x}.wal").write_text(f"{cluster} {sequence}\n" * 1000)
        (self.wal / "0.tmp").touch()

    def archived(self) -> list[int]:
        return sorted(int(path.name[:16], 16) for path in (self.path / "archive/wal_005").glob("*"))


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ((), (0, 1, 2), [0, 1]),
        ((0, 1, 2), (0, 1, 2, 3), [0, 1, 2]),
        ((3, 4, 5), (3, 4, 5, 6, 7), [3, 4, 5, 6]),
        ((0, 1, 2, 3, 4, 5), (3, 4, 5, 6, 7), [0, 1, 2, 3, 4, 5, 6]),
        ((3, 4, 5), (5,), [3, 4]),
        ((), (7,), []),
    ],
)
def test_wal_push_goes_by_sequence(field: Field, first: tuple[int], then: tuple[int], expected: list[int]) -> None:
    if first:
        field.write(*first)
        field.run("wal-push")
    field.write(*then)
    field.run("wal-push")
    assert field.archived() == expected
    if len(then) > 1:
        last = f"{then[-2]:016x}-{then[-2] * 100:016x}.wal"
        assert json.loads((field.path / "cache").read_text()) == {"LastArchivedWal": last}


def test_a_gap_is_told(field: Field) -> None:
    field.write(0, 1, 2)
    field.run("wal-push")
    field.write(6, 7)
    _, err = field.run("wal-push")
    assert "WAL files 0000000000000002 to 0000000000000005 were purged" in err


def test_a_new_cluster_replaces(field: Field) -> None:
    field.write(0, 1, 2, 3)
    field.run("wal-push")
    field.write(0, 1, cluster="b")
    _, err = field.run("wal-push", WALG_COMPRESSION_METHOD="lz4")
    assert "of an earlier cluster" in err
    (held,) = (field.path / "archive/wal_005").glob("0000000000000000-*")
    assert held.stat().st_size


def test_directories_that_cannot_be_read(field: Field) -> None:
    _, err = field.run("wal-push", status=1)
    assert "WALG_ETCD_WAL_DIR" in err
    _, err = field.run("wal-push", status=1, WALG_ETCD_DATA_DIR="")
    assert "WALG_ETCD_DATA_DIR is not set" in err


@pytest.mark.parametrize("method", ["lz4", "none"])
def test_wal_fetch(field: Field, method: str) -> None:
    field.environment["WALG_COMPRESSION_METHOD"] = method
    field.environment["WALG_STREAM_CREATE_COMMAND"] = "echo snapshot"
    field.write(0, 1, 2, 3)
    field.run("wal-push")
    time.sleep(1.1)
    field.run("backup-push")
    field.write(0, 1, 2, 3, 4, 5)
    field.run("wal-push")
    target = field.path / "target"
    _, err = field.run("wal-fetch", str(target), status=1)
    assert "is not a directory" in err
    target.mkdir()
    out, _ = field.run("wal-fetch", str(target))
    assert out == ""
    assert sorted(int(path.name[:16], 16) for path in target.iterdir()) == [2, 3, 4]
    for path in target.iterdir():
        assert path.read_bytes() == (field.wal / path.name).read_bytes()
    field.run("wal-fetch", str(target), "--since", "LATEST")
    changed = next(target.iterdir())
    changed.write_text("other")
    _, err = field.run("wal-fetch", str(target), status=1)
    assert "exists and differs" in err
    assert changed.read_text() == "other"


def test_permanence_and_deletion(field: Field) -> None:
    field.environment["WALG_STREAM_CREATE_COMMAND"] = "echo snapshot"
    field.run("backup-push", "-p", "--add-user-data", '{"b":1,"a":2}')
    field.run("backup-push")
    names = [line.split()[0] for line in field.run("backup-list")[0].splitlines()[1:]]
    text = (field.path / f"archive/basebackups_005/{names[0]}_backup_stop_sentinel.json").read_text()
    assert list(json.loads(text)) == ["StartLocalTime", "IsPermanent", "SnapshotSize", "UserData"]
    assert text.endswith(',"UserData":{"a":2,"b":1}}')
    field.run("delete", "retain", "1", "--confirm")
    _, err = field.run("delete", "target", "--target-user-data", '{"a":2,"b":1}', "--confirm", status=1)
    assert "permanent" in err
    assert [line.split()[0] for line in field.run("backup-list")[0].splitlines()[1:]] == names
    rows = json.loads(field.run("backup-list", "--json", "--detail")[0])
    assert rows[0]["IsPermanent"] is True


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Etcd:
    """A private server that answers: it is healthy, and a linearizable read and a write have succeeded."""

    def __init__(self, data: Path, log: Path) -> None:
        self.data, self.log = data, log
        for _ in range(5):
            if self._start():
                return
        raise AssertionError(f"etcd does not start:\n{log.read_text(errors='replace')[-3000:]}")

    def _start(self) -> bool:
        """False when it ended by itself, as it does when somebody else has taken one of the ports meanwhile."""
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        peer = f"http://127.0.0.1:{free_port()}"
        words = [
            str(SERVER), "--name", "t", "--data-dir", str(self.data), "--listen-client-urls", self.endpoint,
            "--advertise-client-urls", self.endpoint, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"t={peer}",
        ]  # fmt: skip
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(words, stdout=sink, stderr=sink)
        self.environment = dict(os.environ) | {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": self.endpoint}
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            questions = (("endpoint", "health"), ("get", "ready", "--consistency", "l"), ("put", "ready", "yes"))
            if all(not self._try(*words).returncode for words in questions):
                return True
            time.sleep(0.1)
        self.stop()
        return False

    def _try(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["etcdctl", *words, "--command-timeout", "10s"],
            env=self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip

    def call(self, *words: str) -> str:
        """What the client prints. A busy machine lets requests time out: only a server that has ended fails at once."""
        until = time.monotonic() + PATIENCE
        while True:
            done = self._try(*words)
            if not done.returncode:
                return done.stdout
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < until, done.stderr
            time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


@pytest.fixture
def server(field: Field) -> Iterator[Etcd]:
    running = Etcd(field.path / "data", field.path / "log")
    yield running
    running.stop()


@needs_server
@pytest.mark.services
def test_snapshot_under_writes(field: Field, server: Etcd) -> None:
    for number in range(50):
        server.call("put", f"k{number}", f"v{number}")
    going = threading.Event()

    def write() -> None:
        number = 0
        while not going.is_set():
            server.call("put", f"live{number}", "x")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        create = 'f=$(mktemp -u) && etcdctl snapshot save "$f" > /dev/null && cat "$f" && rm "$f"'
        field.run("backup-push", WALG_STREAM_CREATE_COMMAND=create, ETCDCTL_ENDPOINTS=server.endpoint)
    finally:
        going.set()
        writer.join()
    field.run("wal-push")
    snapshot = field.path / "snapshot"
    # From 3.6 on etcdctl has no restore any more.
    tool = "etcdutl" if shutil.which("etcdutl") else "etcdctl"
    restore = f"cat > {snapshot} && {tool} snapshot restore {snapshot} --data-dir {field.path}/restored"
    field.run("backup-fetch", "LATEST", WALG_STREAM_RESTORE_COMMAND=restore)
    second = Etcd(field.path / "restored", field.path / "log2")
    try:
        for number in range(50):
            assert second.call("get", f"k{number}", "--print-value-only") == f"v{number}\n"
    finally:
        second.stop()
