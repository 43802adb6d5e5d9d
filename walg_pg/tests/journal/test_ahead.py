"""What goes on after a command has ended: wal-push-ahead in a burst, wal-prefetch while PostgreSQL replays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from walg_core.context import Context
from walg_core.io.locks import FileLock
from walg_core.testing.contexts import make_context
from walg_pg.journal import detached, push_ahead, turns
from walg_pg.journal.fetch import Fetcher, Places
from walg_pg.journal.prefetch import Window, prefetch
from walg_pg.journal.push import Pusher, push
from walg_pg.journal.push_ahead import Ahead, is_running, is_wanted
from walg_pg.journal.turns import Turns

SIZE = 1 << 20
NAMES = [f"0000000100000000000000{number:02X}" for number in range(1, 41)]
Settings = dict[str, str]


def segment_bytes(number: int) -> bytes:
    """A segment of 1 MiB with a valid first page header."""
    head = (0xD118).to_bytes(2, "little") + (2).to_bytes(2, "little") + (1).to_bytes(4, "little")
    head += (number * SIZE).to_bytes(8, "little") + bytes(8) + (77).to_bytes(8, "little")
    return head + os.urandom(64) + bytes(SIZE - len(head) - 64)


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    """`pg_wal` of a PGDATA with forty segments, all of them ready."""
    wal = tmp_path / "data" / "pg_wal"
    (wal / "archive_status").mkdir(parents=True)
    (tmp_path / "archive").mkdir()
    for number, name in enumerate(NAMES, 1):
        (wal / name).write_bytes(segment_bytes(number))
        (wal / "archive_status" / f"{name}.ready").touch()
    return wal


@pytest.fixture
def settings(tmp_path: Path, wal: Path) -> Settings:
    return {
        "WALG_FILE_PREFIX": str(tmp_path / "archive"),
        "PGDATA": str(wal.parent),
        "WALG_PG_WAL_SIZE": "1",
        "HOME": str(tmp_path),
    }


@pytest.fixture
def make(settings: Settings) -> Iterator[Callable[..., Context]]:
    """Contexts of the engine, with further settings."""
    with contextlib.ExitStack() as stack:
        yield lambda **more: stack.enter_context(contextlib.closing(make_context({**settings, **more}, engine="pg")))


def start(settings: Settings, *words: str) -> subprocess.Popen[bytes]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "PG"))}
    return subprocess.Popen(
        [sys.executable, "-m", "walg_core", "pg", *words],
        env={**inherited, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(settings: Settings, *words: str) -> str:
    with start(settings, *words) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return errors.decode()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stored(tmp_path: Path) -> list[str]:
    return sorted(path.stem for path in (tmp_path / "archive").glob("wal_005/*.lz4"))


def markers(wal: Path) -> Path:
    return wal / "walg_data" / "walg_archive_status"


def marked(wal: Path) -> list[str]:
    return sorted(path.name for path in markers(wal).iterdir() if path.name in NAMES)


def archive(settings: Settings, wal: Path, name: str) -> None:
    """One turn of PostgreSQL's archiver."""
    run(settings, "wal-push", str(wal / name))
    (wal / "archive_status" / f"{name}.ready").rename(wal / "archive_status" / f"{name}.done")


def test_a_burst_goes_on_after_its_first_command(settings: Settings, wal: Path, tmp_path: Path) -> None:
    settings |= {"WALG_UPLOAD_CONCURRENCY": "2", "TOTAL_BG_UPLOADED_LIMIT": "10"}
    archive(settings, wal, NAMES[0])
    # At most ten ahead of PostgreSQL, however long it takes to ask.
    eventually(lambda: len(marked(wal)) == 10)
    assert stored(tmp_path) == NAMES[:11]
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "archive").glob("wal_005/*.lz4")}
    for name in NAMES[1:6]:
        archive(settings, wal, name)
    eventually(lambda: len(stored(tmp_path)) == 16)
    for name, stamp in times.items():
        assert (tmp_path / "archive" / "wal_005" / name).stat().st_mtime_ns == stamp, "it was uploaded twice"
    for name in NAMES[6:]:
        archive(settings, wal, name)
    assert stored(tmp_path) == NAMES
    context = make_context(settings, engine="pg")
    with contextlib.closing(context):
        pusher = Pusher(context, context.write_storage(), str(wal))
        eventually(lambda: not is_running(pusher))
    assert [path.name for path in markers(wal).iterdir()] == ["ahead.lock"]


def test_what_goes_on_holds_no_lock_of_the_command(settings: Settings, wal: Path, make, tmp_path: Path) -> None:
    settings["TOTAL_BG_UPLOADED_LIMIT"] = "10"
    with open(tmp_path / "lock", "w") as lock:
        # As `flock lock wal-g wal-push %p` does it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = [sys.executable, "-m", "walg_core", "pg", "wal-push", str(wal / NAMES[0])]
        subprocess.run(words, env={**os.environ, **settings}, pass_fds=[lock.fileno()], check=True, timeout=120)
    context = make()
    pusher = Pusher(context, context.write_storage(), str(wal))
    eventually(lambda: is_running(pusher))
    with open(tmp_path / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert is_running(pusher), "it had ended: nothing was shown"
    run_off(wal)


def run_off(wal: Path) -> None:
    """Let what goes on find nothing more to do."""
    for path in (wal / "archive_status").glob("*.ready"):
        path.unlink()


def test_few_files_start_no_process(settings: Settings, wal: Path, tmp_path: Path) -> None:
    for name in NAMES[3:]:
        (wal / "archive_status" / f"{name}.ready").unlink()
    run(settings, "wal-push", str(wal / NAMES[0]))
    assert not (markers(wal) / "ahead.lock").exists()
    assert not list(markers(wal).glob("*.uploading"))


@pytest.mark.parametrize(
    "more",
    [
        {"WALG_WAL_PUSH_AHEAD": "false"},
        {"WALG_NETWORK_RATE_LIMIT": "100000000"},
        {"WALG_USE_WAL_DELTA": "true"},
        {"PG_READY_RENAME": "true"},
    ],
)
def test_what_counts_for_one_process_keeps_to_one(make: Callable[..., Context], wal: Path, more: Settings) -> None:
    context = make()
    assert is_wanted(Pusher(context, context.write_storage(), str(wal)))
    context = make(**more)
    assert not is_wanted(Pusher(context, context.write_storage(), str(wal)))


def test_nobody_asks(make: Callable[..., Context], wal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_ahead, "PATIENCE", 0.5)
    context = make()
    pusher = Pusher(context, context.write_storage(), str(wal))
    Ahead(pusher, NAMES[0], 4, 7).run()
    assert marked(wal) == NAMES[1:8]


def test_only_one_at_a_time(make: Callable[..., Context], wal: Path, tmp_path: Path) -> None:
    context = make()
    pusher = Pusher(context, context.write_storage(), str(wal))
    markers(wal).mkdir(parents=True)
    with FileLock(str(markers(wal) / "ahead.lock")):
        assert is_running(pusher)
        push_ahead.push_ahead(context, str(wal / NAMES[0]))
    assert stored(tmp_path) == []
    assert not is_running(pusher)


def test_who_only_looks_keeps_nobody_from_the_work(
    make: Callable[..., Context], wal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "_TRIES", 6000)
    context = make()
    pusher = Pusher(context, context.write_storage(), str(wal))
    for name in NAMES[3:]:
        (wal / "archive_status" / f"{name}.ready").unlink()
    markers(wal).mkdir(parents=True)
    (markers(wal) / "ahead.lock").touch()
    with FileLock(str(markers(wal) / "ahead.lock"), shared=True):
        worker = threading.Thread(target=push_ahead.push_ahead, args=(context, str(wal / NAMES[0])))
        worker.start()
        time.sleep(0.02)
    eventually(lambda: stored(tmp_path) == NAMES[1:3])
    run_off(wal)
    worker.join(60)
    assert not is_running(pusher)


def test_wal_push_waits_for_the_one_who_uploads_its_file(settings: Settings, wal: Path, make, tmp_path: Path) -> None:
    context = make()
    pusher = Pusher(context, context.write_storage(), str(wal))
    turn = pusher.turns.take(NAMES[0])
    assert turn is not None
    with start(settings, "wal-push", str(wal / NAMES[0])) as process:
        # However long it takes to start: it does nothing before the turn is free.
        time.sleep(0.5)
        assert process.poll() is None
        assert stored(tmp_path) == []
        pusher.upload(NAMES[0])
        before = (tmp_path / "archive" / "wal_005" / f"{NAMES[0]}.lz4").stat().st_mtime_ns
        pusher.mark(NAMES[0])
        turn.release()
        assert process.wait(60) == 0
    assert (tmp_path / "archive" / "wal_005" / f"{NAMES[0]}.lz4").stat().st_mtime_ns == before
    assert marked(wal) == []


def test_wal_push_does_not_wait_for_ever(make, wal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.3)
    context = make(TOTAL_BG_UPLOADED_LIMIT="1")
    turn = Turns(str(markers(wal))).take(NAMES[0])
    assert turn is not None
    push(context, str(wal / NAMES[0]))
    assert stored(tmp_path) == NAMES[:1]
    turn.release()


def test_the_turn_of_a_killed_process_is_free(settings: Settings, wal: Path, tmp_path: Path) -> None:
    folder = markers(wal)
    code = f"import time; from walg_pg.journal.turns import Turns; t = Turns({str(folder)!r}).take({NAMES[0]!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(1, flush=True); time.sleep(99)"], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert Turns(str(folder)).take(NAMES[0]) is None
        process.kill()
    assert (folder / f"{NAMES[0]}.uploading").exists()
    run(settings | {"WALG_WAL_PUSH_AHEAD": "true", "TOTAL_BG_UPLOADED_LIMIT": "1"}, "wal-push", str(wal / NAMES[0]))
    assert NAMES[0] in stored(tmp_path)
    assert not (folder / f"{NAMES[0]}.uploading").exists()


def test_turns_pass_from_thread_to_thread(tmp_path: Path) -> None:
    turns = Turns(str(tmp_path / "turns"))
    inside, most = [0], [0]
    lock = threading.Lock()

    def work() -> None:
        for _ in range(200):
            while (turn := turns.take("x")) is None:
                turns.wait("x")
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1
            turn.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert list((tmp_path / "turns").iterdir()) == []


def test_a_signal_leaves_everything_whole_and_the_status_below_two(settings: Settings, wal: Path) -> None:
    markers(wal).mkdir(parents=True)
    with start(settings, "wal-push-ahead", str(wal / NAMES[0])) as process:
        eventually(lambda: bool(marked(wal)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
    assert not list(markers(wal).glob("*.uploading"))


@pytest.mark.parametrize("command", ["wal-push-ahead", "wal-prefetch"])
def test_a_storage_that_fails_gives_status_one(settings: Settings, wal: Path, tmp_path: Path, command: str) -> None:
    markers(wal).mkdir(parents=True)
    settings["WALG_FILE_PREFIX"] = str(tmp_path / "none")
    words = [NAMES[0], str(tmp_path / "X")] if command == "wal-prefetch" else [str(wal / NAMES[0])]
    with start(settings, command, *words) as process:
        process.communicate(timeout=60)
    assert process.returncode in (0, 1)


# Fetching.


@pytest.fixture
def archived(settings: Settings, wal: Path, make: Callable[..., Context]) -> Context:
    """The context of an archive that has all forty."""
    context = make(WALG_DOWNLOAD_CONCURRENCY="10")
    pusher = Pusher(context, context.write_storage(), str(wal))
    for name in NAMES:
        pusher.upload(name)
    return context


def test_the_window_follows_what_is_taken(archived: Context, tmp_path: Path) -> None:
    target = tmp_path / "to" / "RECOVERYXLOG"
    target.parent.mkdir()
    places = Places(archived, str(target))
    fetcher = Fetcher(archived)
    worker = threading.Thread(target=prefetch, args=(archived, NAMES[0], str(target)), kwargs={"follow": True})
    worker.start()
    try:
        for number, name in enumerate(NAMES[1:], 1):
            eventually(lambda name=name: os.path.exists(places.finished(name)))
            ahead = [each for each in NAMES if os.path.exists(places.finished(each))]
            assert len(ahead) <= 10
            assert fetcher.take_prefetched(name, places, str(target))
            assert target.read_bytes()[8:16] == ((number + 1) * SIZE).to_bytes(8, "little")
    finally:
        worker.join(60)
    assert not worker.is_alive(), "the end of the archive ends it"


def test_what_was_passed_by_is_removed(archived: Context, tmp_path: Path) -> None:
    target = tmp_path / "to" / "RECOVERYXLOG"
    target.parent.mkdir()
    places = Places(archived, str(target))
    worker = threading.Thread(target=prefetch, args=(archived, NAMES[0], str(target)), kwargs={"follow": True})
    worker.start()
    try:
        eventually(lambda: all(os.path.exists(places.finished(name)) for name in NAMES[1:11]))
        assert Fetcher(archived).take_prefetched(NAMES[8], places, str(target))
        eventually(lambda: not any(os.path.exists(places.finished(name)) for name in NAMES[1:8]))
        eventually(lambda: os.path.exists(places.finished(NAMES[18])))
    finally:
        worker.join(60)
    assert not worker.is_alive(), "nobody takes anything any more"


def test_without_follow_it_fetches_its_window_and_ends(archived: Context, tmp_path: Path) -> None:
    target = tmp_path / "to" / "RECOVERYXLOG"
    target.parent.mkdir()
    places = Places(archived, str(target))
    started = time.monotonic()
    prefetch(archived, NAMES[0], str(target))
    assert [name for name in NAMES if os.path.exists(places.finished(name))] == NAMES[1:11]
    # With everything there, the same again has nothing to do.
    Window(Fetcher(archived), places, NAMES[1:11]).fill(follow=False)
    assert time.monotonic() - started < 60
