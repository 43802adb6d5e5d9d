"""The stream engine with real shells, real codecs and the in-memory storage."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.backups import catalog
from walg_core.context import Context
from walg_core.errors import CommandFailed, ConfigError, IntegrityError, StorageError, UsageError
from walg_core.pipeline.reader import BytesReader, IterReader, Reader, read_all
from walg_core.plugins import installed
from walg_core.settings.config import Config
from walg_core.storage.memory import MemoryStorage
from walg_core.streams import commands, engine
from walg_core.streams.channel import Channel, ChannelClosed
from walg_core.streams.commands import CommandReader, feed_command
from walg_core.streams.engine import Marks, StreamEngine
from walg_core.streams.fetch import open_stream
from walg_core.streams.push import store_stream
from walg_core.streams.splitter import Split, deal, join


class MemoryContext(Context):
    """A context whose only storage is in memory."""

    def __init__(self, storage: MemoryStorage, **values: str) -> None:
        found = installed()
        super().__init__(Config(found.all_settings(), environment=values), found)
        self.memory = storage

    def write_storage(self, target: str = "") -> MemoryStorage:
        return self.memory

    def read_storages(self, target: str = "") -> list[MemoryStorage]:  # type: ignore[override]
        return [self.memory]


def make(**values: str) -> tuple[MemoryContext, MemoryStorage]:
    storage = MemoryStorage()
    return MemoryContext(storage, **values), storage


def ragged(data: bytes, step: int) -> Reader:
    return IterReader(data[at : at + step] for at in range(0, len(data), step))


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=5000),
    partitions=st.integers(1, 7),
    block=st.integers(1, 700),
    step=st.integers(1, 900),
)
def test_dealing_and_joining(data: bytes, partitions: int, block: int, step: int) -> None:
    channels = [Channel(limit=1 << 30) for _ in range(partitions)]
    assert deal(ragged(data, step), Split(partitions, block), channels) == len(data)
    raw = [read_all(channel) for channel in channels]
    blocks = [data[at : at + block] for at in range(0, len(data), block)]
    assert raw == [b"".join(blocks[number::partitions]) for number in range(partitions)]
    assert b"".join(join([ragged(each, step) for each in raw], block)) == data


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=3000),
    split=st.builds(Split, st.integers(1, 4), st.integers(1, 300), st.sampled_from([0, 1, 7, 100, 5000])),
    method=st.sampled_from(["lz4", "zstd", "none", "brotli"]),
)
def test_split_backups_come_back(data: bytes, split: Split, method: str) -> None:
    if split.max_file_size == 1:
        data = data[:40]
    context, storage = make(WALG_COMPRESSION_METHOD=method)
    plain, _ = store_stream(context, storage, "basebackups_005/b/", BytesReader(data), split)
    assert plain == len(data)
    names = [info.key for info in storage.list()]
    if split.max_file_size:
        pieces = [-(-len(p) // split.max_file_size) for p in _raw(data, split)]
        pieces[0] = max(1, pieces[0])
        assert len(names) == sum(pieces) + 1
    else:
        assert len(names) == split.partitions + 1
    source = open_stream(context, storage, "b", plain_size=len(data))
    assert read_all(source) == data
    source.close()


def _raw(data: bytes, split: Split) -> list[bytes]:
    blocks = [data[at : at + split.block_size] for at in range(0, len(data), split.block_size)]
    return [b"".join(blocks[number :: split.partitions]) for number in range(split.partitions)]


def test_the_specifications_example() -> None:
    context, storage = make(WALG_COMPRESSION_METHOD="none")
    store_stream(context, storage, "b/", BytesReader(bytes(range(30))), Split(3, 4, 6))
    assert storage.get("b/part_0000_0000") == bytes([0, 1, 2, 3, 12, 13])
    assert storage.get("b/part_0000_0001") == bytes([14, 15, 24, 25, 26, 27])
    assert (
        storage.get("b/stream_metadata.json") == b'{"type":"SPLIT_MERGE_STREAM_BACKUP","partitions":3,"block_size":4}'
    )


@pytest.mark.parametrize("largest", [0, 100])
def test_every_missing_piece_is_noticed(largest: int) -> None:
    data = os.urandom(3333)
    context, storage = make()
    store_stream(context, storage, "basebackups_005/b/", BytesReader(data), Split(3, 64, largest))
    parts = [info.key for info in storage.list() if "part_" in info.key]
    assert len(parts) > 2
    for key in parts:
        held = storage.get(key)
        storage.delete([key])
        with pytest.raises(IntegrityError):
            read_all(open_stream(context, storage, "b", plain_size=len(data)))
        storage.put_bytes(key, held)


def test_a_partition_that_ends_early_is_noticed_without_a_known_size() -> None:
    with pytest.raises(IntegrityError, match="piece of it is missing"):
        list(join([BytesReader(b"aaaabbbb"), BytesReader(b"cc"), BytesReader(b"dddd")], 4))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"type":"OTHER"}', "Unknown backup type OTHER"),
        ('{"type":"SPLIT_MERGE_STREAM_BACKUP","partitions":1}', "no block size"),
        ('{"type":"SPLIT_MERGE_STREAM_BACKUP","partitions":1,"block_size":1,"compression":"x"}', "file type 'x' not"),
        ('{"type":"SPLIT_MERGE_STREAM_BACKUP","partitions":1,"block_size":1,"compression":".lz4"}', "0 is missing"),
        ("[]", "not a JSON object"),
    ],
)
def test_bad_stream_metadata(text: str, match: str) -> None:
    context, storage = make()
    storage.put_bytes("basebackups_005/b/stream_metadata.json", text.encode())
    with pytest.raises(IntegrityError, match=match):
        open_stream(context, storage, "b")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"BLOCK_SIZE": "0", "PARTITIONS": "2"}, "BLOCK_SIZE"),
        ({"PARTITIONS": "-1"}, "PARTITIONS"),
        ({"PARTITIONS": "2", "MAX_FILE_SIZE": "-5"}, "MAX_FILE_SIZE"),
    ],
)
def test_splitter_settings_are_checked(values: dict[str, str], match: str) -> None:
    context, _ = make(**{f"WALG_STREAM_SPLITTER_{name}": value for name, value in values.items()})
    with pytest.raises(ConfigError, match=match):
        Split.from_config(context.config)


def pushing(command: str, **more: str) -> tuple[MemoryContext, MemoryStorage]:
    return make(WALG_STREAM_CREATE_COMMAND=command, **more)


SPLIT = {"WALG_STREAM_SPLITTER_PARTITIONS": "3", "WALG_STREAM_SPLITTER_BLOCK_SIZE": "1kb"}
FDB = StreamEngine(splits=True)


@pytest.mark.parametrize("more", [{}, SPLIT], ids=["single", "split"])
@pytest.mark.parametrize(
    ("command", "match"),
    [
        ("head -c 5000000 /dev/zero; echo 'no more disk' >&2; exit 3", "(?s)exit status 3.*no more disk"),
        ("head -c 100000 /dev/zero; kill -9 $$", "killed by SIGKILL"),
        ("exit 1", "exit status 1; it said nothing"),
        ("no-such-program-here", "(?s)exit status 127"),
    ],
)
def test_a_failing_command_leaves_nothing(command: str, match: str, more: dict[str, str]) -> None:
    context, storage = pushing(command, **more)
    with pytest.raises(CommandFailed, match=match):
        engine.push(context, FDB, Marks())
    assert list(storage.list()) == []


@pytest.mark.parametrize("more", [{}, SPLIT], ids=["single", "split"])
def test_push_and_fetch(more: dict[str, str], tmp_path: Path) -> None:
    context, storage = pushing("seq 1 300000", WALG_STREAM_RESTORE_COMMAND=f"cat > {tmp_path}/out", **more)
    pushed = engine.push(context, FDB, Marks(True, {"b": 1, "a": 2}))
    stored = json.loads(storage.get(catalog.sentinel_key(pushed.name)))
    assert list(stored) == ["StartLocalTime", "IsPermanent", "UserData"]
    assert list(stored["UserData"]) == ["a", "b"]
    engine.fetch(context, FDB, "LATEST")
    assert (tmp_path / "out").read_text() == "".join(f"{number}\n" for number in range(1, 300001))
    assert pushed.plain_size == (tmp_path / "out").stat().st_size
    engine.fetch(context, FDB, "", '{"a": 2, "b": 1.0}')


def running(group: str) -> list[str]:
    """Commands of a process group that are not zombies waiting for init, after a moment to end."""
    for _ in range(50):
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, fields = path.read_text().partition("(")[2].rsplit(")", 1)
            except (OSError, ValueError):
                continue
            state, _, pgrp = fields.split()[:3]
            if pgrp == group and state != "Z":
                found.append(name)
        if not found:
            return []
        time.sleep(0.1)
    return found


class Refusing(MemoryStorage):
    """Takes some bytes of the data, at least until the command runs, then fails."""

    started: Path

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        if "part_0001" in key or key.endswith("stream.lz4"):
            while body.read(1 << 20) and not self.started.exists():
                continue
            raise StorageError("the disk is full")
        return super().put(key, body, size, if_absent)


@pytest.mark.parametrize("more", [{}, SPLIT], ids=["single", "split"])
def test_a_failing_storage_ends_the_command(more: dict[str, str], tmp_path: Path) -> None:
    values = {"WALG_STREAM_CREATE_COMMAND": f"echo $$ > {tmp_path}/pid; yes | tee /dev/null", **more}
    storage = Refusing()
    storage.started = tmp_path / "pid"
    context = MemoryContext(storage, **values)
    with pytest.raises(StorageError, match="the disk is full"):
        engine.push(context, FDB, Marks())
    assert list(storage.list()) == []
    assert running((tmp_path / "pid").read_text().strip()) == []


def test_two_backups_in_one_second_get_two_names() -> None:
    context, storage = pushing("echo x")
    names = {engine.push(context, FDB, Marks()).name for _ in range(2)}
    assert len(names) == len(catalog.list_backups(storage)) == 2


def test_user_data_is_checked_before_anything_starts() -> None:
    context, _ = make()
    with pytest.raises(UsageError, match="--add-user-data is not valid JSON"):
        engine.marks_from(context, False, "nightly")
    context, _ = make(WALG_SENTINEL_USER_DATA="nightly")
    with pytest.raises(ConfigError, match="WALG_SENTINEL_USER_DATA"):
        engine.marks_from(context, False, "")


def test_commands_that_are_not_configured() -> None:
    context, _ = make()
    with pytest.raises(ConfigError, match="WALG_STREAM_CREATE_COMMAND is not set"):
        engine.push(context, FDB, Marks())
    with pytest.raises(ConfigError, match="WALG_STREAM_RESTORE_COMMAND is not set"):
        engine.fetch(context, FDB, "LATEST")


def test_a_restore_command_that_reads_too_little() -> None:
    for text in ("head -c 10 > /dev/null", "true", "exec 0</dev/null; sleep 0.1"):
        with pytest.raises(CommandFailed, match="before it had read the whole backup"):
            feed_command(text, BytesReader(bytes(3_000_000)))
    with pytest.raises(CommandFailed, match="before it had read the whole backup"):
        feed_command("true", BytesReader(b"short"))
    with pytest.raises(CommandFailed, match="exit status 4"):
        feed_command("cat > /dev/null; exit 4", BytesReader(b"short"))


def test_a_damaged_stream_never_looks_complete_to_the_command(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(100_000)
        raise IntegrityError("the object is damaged")

    marker = tmp_path / "finished"
    with pytest.raises(IntegrityError, match="damaged"):
        feed_command(f"cat > {tmp_path}/out && touch {marker}", IterReader(broken()))
    time.sleep(0.1)
    assert not marker.exists()


def test_a_command_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "GRACE", 0.2)
    reader = CommandReader("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    assert reader.read(100) == b"ready\n"
    started = time.monotonic()
    reader.close()
    assert time.monotonic() - started < 5
    assert reader.command.process.returncode == -signal.SIGKILL


def test_environment_and_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHELL", raising=False)
    reader = CommandReader('echo "$MORE $HOME"', extra={"MORE": "yes"})
    assert read_all(reader) == f"yes {os.environ['HOME']}\n".encode()
    reader.close()
    monkeypatch.setenv("SHELL", "/no/such/shell")
    with pytest.raises(CommandFailed, match="/no/such/shell"):
        CommandReader("true")


def test_a_channel_is_bounded_and_wakes_its_writer() -> None:
    channel = Channel(limit=1000)
    passed = itertools.count()
    done = threading.Event()

    def write() -> None:
        try:
            while True:
                channel.put(bytes(100))
                next(passed)
        except ChannelClosed:
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.1)
    assert not done.is_set()
    channel.close()
    assert done.wait(5)
    thread.join()
    assert next(passed) == 10


@pytest.mark.parametrize(
    "call",
    [
        lambda c: engine.delete_target(c, FDB, ["a", "b"], "", confirm=True),
        lambda c: engine.delete_target(c, FDB, ["FIND_FULL"], "", confirm=True),
        lambda c: engine.delete_target(c, FDB, [], "", confirm=True),
    ],
)
def test_delete_target_arguments(call: Callable[[Context], None]) -> None:
    context, storage = pushing("echo x")
    engine.push(context, FDB, Marks())
    before = len(list(storage.list()))
    with pytest.raises((UsageError, catalog.NoBackups)):
        call(context)
    assert len(list(storage.list())) == before
