"""The daemon and its client: the protocol's bytes, real archiving, bad clients, and the service manager."""

from __future__ import annotations

import contextlib
import json
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
from hypothesis import given
from hypothesis import strategies as st
from walg_core.testing.network import FaultProxy
from walg_pg.daemon import client, protocol
from walg_storage_s3.testing import emulator

SEGMENT = "000000010000000000000002"
ABSENT = "0000000100000000000000FF"
SIZE = 16 << 20


def segment_bytes(number: int) -> bytes:
    """A segment of zeros with a valid first page header."""
    head = (0xD118).to_bytes(2, "little") + (2).to_bytes(2, "little") + (1).to_bytes(4, "little")
    head += (number * SIZE).to_bytes(8, "little") + bytes(8) + (77).to_bytes(8, "little")
    return head.ljust(SIZE, b"\0")


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PGDATA with one segment, an archive, short paths for sockets."""
    root = tmp_path_factory.mktemp("d")
    (root / "data" / "pg_wal" / "archive_status").mkdir(parents=True)
    (root / "data" / "pg_wal" / SEGMENT).write_bytes(segment_bytes(2))
    (root / "archive").mkdir()
    return root


def start(place: Path, **settings: str) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "PG", "NOTIFY"))}
    environment = {
        **inherited,
        "WALG_FILE_PREFIX": str(place / "archive"),
        "PGDATA": str(place / "data"),
        "WALG_DOWNLOAD_CONCURRENCY": "1",
        **settings,
    }
    command = [sys.executable, "-m", "walg_core", "pg", "daemon", str(place / "s")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not listens(place / "s"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the daemon did not start: {process.communicate()[1]}")
        time.sleep(0.02)
    return process


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


@pytest.fixture
def daemon(place: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(place)
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=40)


def ask(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "walg_pg.daemon.client", str(place / "s"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def raw(place: Path, data: bytes, seconds: float = 30) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(place / "s"))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        while piece := connection.recv(10):
            reply += piece
        return reply


def test_the_vectors_of_the_protocol() -> None:
    assert protocol.frame(protocol.CHECK).hex() == "430003"
    assert protocol.frame(protocol.PUSH, SEGMENT.encode()) == b"F\x00\x1b" + SEGMENT.encode()
    body = protocol.arguments(SEGMENT, "pg_wal/RECOVERYXLOG")
    assert protocol.frame(protocol.FETCH, body)[:6].hex() == "660033020018"
    assert protocol.parse_arguments(body) == [SEGMENT, "pg_wal/RECOVERYXLOG"]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=50), max_size=20))
def test_arguments_round_trip(words: list[str]) -> None:
    assert protocol.parse_arguments(protocol.arguments(*words)) == words


@given(st.binary(max_size=60))
def test_any_bytes_are_arguments_or_an_error(body: bytes) -> None:
    try:
        protocol.parse_arguments(body)
    except ValueError:
        return


def test_push_and_fetch(daemon, place: Path) -> None:
    assert ask(place, "wal-push", SEGMENT).returncode == 0
    assert (place / "archive" / "wal_005" / f"{SEGMENT}.lz4").exists()
    assert ask(place, "wal-push", f"pg_wal/{SEGMENT}").returncode == 0
    assert ask(place, "wal-push", str(place / "data" / "pg_wal" / SEGMENT)).returncode == 0
    done = ask(place, "WAL-FETCH", SEGMENT, "pg_wal/RECOVERYXLOG", "-timeout", "30s")
    assert done.returncode == 0, done.stderr
    assert (place / "data" / "pg_wal" / "RECOVERYXLOG").read_bytes() == segment_bytes(2)


def test_absent_is_74(daemon, place: Path) -> None:
    done = ask(place, "wal-fetch", ABSENT, "pg_wal/X")
    assert done.returncode == 74
    assert done.stdout == (
        f"daemon command run error [message type: f, args: [{ABSENT} pg_wal/X], daemon response: N]\n"
    )


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "pg_wal/../../x"])
def test_no_path_leads_out_of_the_data_directory(daemon, place: Path, path: str) -> None:
    ask(place, "wal-push", SEGMENT)
    assert ask(place, "wal-fetch", SEGMENT, path).returncode == 1
    assert ask(place, "wal-push", path).returncode == 1
    assert not (place / "x").exists()


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"C\0\3", b"O"),
        (b"C\0\3C\0\3C\0\3", b"OOO"),
        (b"F\0\2", b"E"),
        (b"Z\0\3", b"E"),
        (b"f\0\4\1", b"E"),
        (b"F\0\x1b0000", b"E"),
        (b"", b""),
        (b"f\0\5\0\0", b"E"),
    ],
)
def test_bad_clients_get_an_error_and_the_daemon_lives(daemon, place: Path, data: bytes, reply: bytes) -> None:
    assert raw(place, data) == reply
    assert raw(place, b"C\0\3") == b"O"


def test_many_clients_at_once(daemon, place: Path) -> None:
    replies: list[bytes] = []
    frame = protocol.frame(protocol.PUSH, SEGMENT.encode())
    threads = [threading.Thread(target=lambda: replies.append(raw(place, frame))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [b"O"] * 40
    assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < 30


def test_clients_that_come_and_vanish_leave_nothing_behind(place: Path) -> None:
    """`WALG_TEST_REQUESTS` clients (10,000 before a release), half of which are cut off somewhere."""
    # Into a file: nobody reads the pipe meanwhile.
    daemon = start(place, WALG_LOG_DESTINATION=str(place / "log"))
    generator = random.Random(3)
    push = protocol.frame(protocol.PUSH, SEGMENT.encode())
    absent = protocol.frame(protocol.FETCH, protocol.arguments(ABSENT, "pg_wal/X"))
    lost = protocol.frame(protocol.FETCH, protocol.arguments(SEGMENT, "pg_wal/RECOVERYXLOG"))
    assert ask(place, "wal-push", SEGMENT).returncode == 0

    def held() -> tuple[int, int]:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        return len(os.listdir(f"/proc/{daemon.pid}/fd")), int(status.split("Threads:")[1].split()[0])

    # The codecs' workers come with the first requests, and stay.
    for frame in (push, lost, push):
        raw(place, frame)
    files, threads = held()
    for _ in range(int(os.environ.get("WALG_TEST_REQUESTS", "200"))):
        frame = generator.choice((push, absent, lost, b"C\0\3"))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(place / "s"))
            cut = generator.choice((len(frame), generator.randrange(len(frame))))
            connection.sendall(frame[:cut])
            if cut == len(frame) and generator.random() < 0.5:
                assert connection.recv(1) in (b"O", b"N", b"E")
    until(lambda: held()[0] <= files and held()[1] <= threads)
    assert raw(place, push) == b"O"
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=90)


def test_a_storage_outage_fails_requests_and_not_the_daemon(daemon, place: Path) -> None:
    (place / "archive").rename(place / "gone")
    assert ask(place, "wal-push", SEGMENT).returncode == 1
    (place / "gone").rename(place / "archive")
    assert ask(place, "wal-push", SEGMENT).returncode == 0


@pytest.mark.slow
def test_an_outage_of_an_object_storage_is_survived(place: Path) -> None:
    with contextlib.ExitStack() as stack:
        settings = stack.enter_context(emulator())
        proxy = stack.enter_context(FaultProxy("127.0.0.1", int(settings["AWS_ENDPOINT"].rpartition(":")[2])))
        settings |= {
            "AWS_ENDPOINT": f"http://127.0.0.1:{proxy.port}",
            "WALG_FILE_PREFIX": "",
            "WALG_STORAGE_RETRIES": "1",
            "WALG_STORAGE_STALL_TIMEOUT": "1s",
        }
        process = start(place, **settings)
        stack.callback(process.communicate, timeout=60)
        stack.callback(process.send_signal, signal.SIGTERM)
        names = make_ready(place, 2, 3, 4, 5, 6)
        assert ask(place, "wal-push", names[0]).returncode == 0
        for number, trouble in enumerate(("refuse", "silent"), 1):
            # What was uploaded ahead needs no storage any more: a new file does.
            changed = bytearray(segment_bytes(number + 2))
            changed[9000] = number
            (place / "data" / "pg_wal" / names[number]).write_bytes(changed)
            setattr(proxy, trouble, True)
            proxy.drop()
            assert ask(place, "wal-push", names[number]).returncode == 1, trouble
            assert ask(place, "wal-fetch", names[number], "pg_wal/X").returncode == 1, trouble
            assert not (place / "data" / "pg_wal" / "X").exists()
            assert process.poll() is None
            proxy.heal()
            assert ask(place, "wal-push", names[number]).returncode == 0
            assert ask(place, "wal-fetch", names[number], "pg_wal/Y").returncode == 0
            assert (place / "data" / "pg_wal" / "Y").read_bytes() == bytes(changed)
            (place / "data" / "pg_wal" / "Y").unlink()
        for name in names[3:]:
            assert ask(place, "wal-push", name).returncode == 0


def make_ready(place: Path, *numbers: int) -> list[str]:
    """Segments that wait in PostgreSQL's status directory."""
    names = [f"0000000100000000000000{number:02X}" for number in numbers]
    for number, name in zip(numbers, names, strict=True):
        (place / "data" / "pg_wal" / name).write_bytes(segment_bytes(number))
        (place / "data" / "pg_wal" / "archive_status" / f"{name}.ready").touch()
    return names


def until(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def archived(place: Path, folder: str = "archive") -> set[str]:
    directory = place / folder / "wal_005"
    return {path.stem for path in directory.iterdir() if path.suffix == ".lz4"} if directory.is_dir() else set()


def test_what_waits_is_uploaded_ahead_and_found_when_its_turn_comes(daemon, place: Path) -> None:
    names = make_ready(place, 2, 3, 4, 5, 7)
    assert ask(place, "wal-push", SEGMENT).returncode == 0
    until(lambda: archived(place) == set(names[:4]))
    stored = place / "archive" / "wal_005" / f"{names[1]}.lz4"
    before = stored.stat().st_ino
    assert ask(place, "wal-push", names[1]).returncode == 0
    assert stored.stat().st_ino == before, "it was uploaded a second time"
    # Another file of that name than the one that was stored ahead: as after a restore of the data directory.
    changed = bytearray(segment_bytes(4))
    changed[9000] ^= 1
    (place / "data" / "pg_wal" / names[2]).write_bytes(changed)
    assert ask(place, "wal-push", names[2]).returncode == 0
    assert ask(place, "wal-fetch", names[2], "pg_wal/X").returncode == 0
    assert (place / "data" / "pg_wal" / "X").read_bytes() == bytes(changed)


def test_it_looks_no_further_ahead_than_allowed(place: Path) -> None:
    process = start(place, TOTAL_BG_UPLOADED_LIMIT="3", PG_READY_RENAME="true")
    names = make_ready(place, 2, 3, 4, 5)
    assert ask(place, "wal-push", SEGMENT).returncode == 0
    status = place / "data" / "pg_wal" / "archive_status"
    until(lambda: (status / f"{names[1]}.done").exists() and (status / f"{names[2]}.done").exists())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=90)
    assert archived(place) == set(names[:3])
    assert (status / f"{names[3]}.ready").exists()


def test_a_stop_waits_for_what_is_on_its_way(place: Path) -> None:
    # One segment of noise at 6 MB/s takes some seconds.
    process = start(place, WALG_NETWORK_RATE_LIMIT="6000000")
    (place / "data" / "pg_wal" / SEGMENT).write_bytes(segment_bytes(2)[:64] + os.urandom(SIZE - 64))
    replies: list[bytes] = []
    frame = protocol.frame(protocol.PUSH, SEGMENT.encode())
    asking = threading.Thread(target=lambda: replies.append(raw(place, frame, 60)))
    asking.start()
    until(lambda: (place / "archive" / "wal_005").is_dir())
    process.send_signal(signal.SIGTERM)
    asking.join()
    assert process.wait(90) == 0
    process.communicate()
    assert replies == [b"O"]
    assert archived(place) == {SEGMENT}


def test_an_upload_that_took_too_long_counts_when_it_is_asked_for_again(place: Path) -> None:
    process = start(place, WALG_NETWORK_RATE_LIMIT="6000000", WALG_DAEMON_WAL_UPLOAD_TIMEOUT="500ms")
    (place / "data" / "pg_wal" / SEGMENT).write_bytes(segment_bytes(2)[:64] + os.urandom(SIZE - 64))
    assert ask(place, "wal-push", SEGMENT).returncode == 1
    until(lambda: ask(place, "wal-push", SEGMENT).returncode == 0)
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=90)[1]
    assert "did not finish within 0.5 s" in log
    assert log.count(f"FILE PATH: {SEGMENT}.lz4") == 1


def test_the_configuration_is_read_anew_and_a_broken_one_changes_nothing(place: Path) -> None:
    settings = place / "settings.json"
    settings.write_text(json.dumps({"WALG_FILE_PREFIX": str(place / "archive")}))
    (place / "second").mkdir()
    log = place / "log"
    process = start(place, WALG_CONFIG_PATH=str(settings), WALG_FILE_PREFIX="", WALG_LOG_DESTINATION=str(log))

    def reload(said: str) -> None:
        before = log.read_text().count(said)
        process.send_signal(signal.SIGHUP)
        until(lambda: log.read_text().count(said) > before)

    assert ask(place, "wal-push", SEGMENT).returncode == 0
    assert archived(place) == {SEGMENT}
    for broken in ('{"WALG_FILE_PREFIX": ', '{"WALG_FILE_PREFIX": "/nowhere"}', '{"WALG_COMPRESSION_METHOD": "x"}'):
        settings.write_text(broken)
        reload("the old one stays in use")
        (place / "archive" / "wal_005" / f"{SEGMENT}.lz4").unlink()
        (place / "data" / "pg_wal" / SEGMENT).touch()
        assert ask(place, "wal-push", SEGMENT).returncode == 0
        assert archived(place) == {SEGMENT}
    settings.write_text(json.dumps({"WALG_FILE_PREFIX": str(place / "second")}))
    reload("reloaded: settings")
    assert ask(place, "wal-push", SEGMENT).returncode == 0
    assert archived(place, "second") == {SEGMENT}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=90)


def test_graceful_end_and_restart(place: Path) -> None:
    process = start(place)
    second = subprocess.run(
        [sys.executable, "-m", "walg_core", "pg", "daemon", str(place / "s")],
        env={**os.environ, "WALG_FILE_PREFIX": str(place / "archive"), "PGDATA": str(place / "data")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 1
    assert "another daemon serves" in second.stderr
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert ask(place, "wal-push", SEGMENT).returncode == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    process.communicate()
    assert not (place / "s").exists()
    process = start(place)
    process.kill()
    process.communicate()
    assert (place / "s").exists(), "a killed daemon leaves its socket"
    process = start(place)
    assert ask(place, "wal-push", SEGMENT).returncode == 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=40)


def test_the_service_manager_is_told(place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "n"))
        manager.settimeout(20)
        process = start(place, NOTIFY_SOCKET=str(place / "n"), WATCHDOG_USEC="400000")
        told = {manager.recv(100) for _ in range(3)}
        assert told == {b"READY=1", b"WATCHDOG=1"}
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)
        rest = b""
        manager.settimeout(2)
        while b"STOPPING" not in rest:
            rest = manager.recv(100)
    assert rest == b"STOPPING=1"


def test_a_file_that_is_no_socket_is_not_touched(place: Path) -> None:
    (place / "s").write_text("precious")
    done = subprocess.run(
        [sys.executable, "-m", "walg_core", "pg", "daemon", str(place / "s")],
        env={**os.environ, "WALG_FILE_PREFIX": str(place / "archive"), "PGDATA": str(place / "data")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert (place / "s").read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("0", 0), ("2m", 120)]
)
def test_durations(text: str, seconds: float) -> None:
    assert client.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("s",),
        ("s", "wal-push"),
        ("s", "wal-fetch", "a"),
        ("s", "dance", "a"),
        ("s", "wal-push", "a", "-timeout", "soon"),
        ("s", "wal-push", "a", "-colour", "1"),
    ],
)
def test_bad_usage_is_explained(words) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "walg_pg.daemon.client", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "usage: walg-daemon-client" in done.stdout


def test_the_client_imports_only_what_it_needs() -> None:
    code = (
        "import sys; before = set(sys.modules); from walg_pg.daemon import client, protocol; "
        "client.parse(['s', 'wal-push', 'a']); import _socket; print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) <= {"walg_pg", "walg_pg.daemon", "walg_pg.daemon.client", "walg_pg.daemon.protocol", "_socket"}
