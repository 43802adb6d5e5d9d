"""Nothing partial is ever seen, nothing hangs, and every wrong setting is named."""

from __future__ import annotations

import contextlib
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

import asyncssh
import pytest
from walg_core.builtin import walg_register_settings
from walg_core.errors import AccessDenied, ConfigError, NoSpace, ObjectNotFound, StorageError, TransientError
from walg_core.pipeline.reader import IterReader, read_all
from walg_core.settings.config import Config
from walg_core.storage.layers.retry import Policy, RetryStorage
from walg_core.testing import FaultProxy
from walg_storage_ssh.plugin import SETTINGS
from walg_storage_ssh.storage import SshStorage, create
from walg_storage_ssh.testing import PASSWORD, emulator


def make(settings: dict[str, str], **more: str) -> SshStorage:
    given = {name: text for name, text in {**settings, **more}.items() if text}
    config = Config([*walg_register_settings(), *SETTINGS], flags=given)
    return create(config, given["WALG_SSH_PREFIX"])


@contextlib.contextmanager
def opened(settings: dict[str, str], **more: str) -> Iterator[SshStorage]:
    storage = make(settings, **more)
    try:
        yield storage
    finally:
        storage.close()


@pytest.fixture
def proxied(server: dict[str, str]) -> Iterator[tuple[FaultProxy, dict[str, str]]]:
    """The server behind a proxy that misbehaves, in a folder of the test's own; a stall lasts a second."""
    with FaultProxy("127.0.0.1", int(server["SSH_PORT"])) as proxy:
        known = Path(server["SSH_KNOWN_HOSTS"]).read_text().replace(server["SSH_PORT"], str(proxy.port))
        path = Path(server["SSH_KNOWN_HOSTS"]).with_name(f"known-{proxy.port}")
        path.write_text(known)
        yield (
            proxy,
            {
                **server,
                "WALG_SSH_PREFIX": f"{server['WALG_SSH_PREFIX']}/{uuid.uuid4()}",
                "SSH_PORT": str(proxy.port),
                "SSH_KNOWN_HOSTS": str(path),
                "SSH_CONNECT_TIMEOUT": "2s",
                "WALG_STORAGE_STALL_TIMEOUT": "1s",
            },
        )


def files(settings: dict[str, str]) -> list[str]:
    """What really lies on the server, temporary names included."""
    root = settings["WALG_SSH_PREFIX"].removeprefix("ssh://127.0.0.1").partition("@127.0.0.1")[2]
    root = root or settings["WALG_SSH_PREFIX"].removeprefix("ssh://127.0.0.1")
    return [name for _, _, names in os.walk(root) for name in names]


@pytest.mark.parametrize("fault", ["reset_after", "close_after", "stall_after"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_uploads_and_downloads_survive(proxied, fault: str, direction: str) -> None:
    proxy, settings = proxied
    content = os.urandom(6 << 20)
    proxy.direction, proxy.faults_left = direction, 1
    setattr(proxy, fault, 2 << 20 if direction == "up" else 6000)
    with opened(settings) as inner:
        storage = RetryStorage(inner, Policy(5, 30))
        started = time.monotonic()
        storage.put_bytes("folder/object", content)
        proxy.faults_left = 1
        setattr(proxy, fault, 3 << 20 if direction == "down" else 6000)
        inner.close()
        assert read_all(storage.open("folder/object")) == content
        assert time.monotonic() - started < 20
        assert [info.key for info in storage.list()] == ["folder/object"]


def test_a_silent_server_is_given_up(proxied) -> None:
    proxy, settings = proxied
    proxy.silent = True
    with opened(settings) as storage:
        started = time.monotonic()
        with pytest.raises(TransientError, match="no SSH session within 2 s") as caught:
            storage.stat("x")
        assert time.monotonic() - started < 6
        assert "SSH_CONNECT_TIMEOUT" in (caught.value.hint or "")


def test_a_black_hole_ends_within_the_stall_timeout(proxied) -> None:
    proxy, settings = proxied
    with opened(settings) as storage:
        storage.put_bytes("a", b"a")
        proxy.stall_after = 0
        started = time.monotonic()
        with pytest.raises(TransientError):
            storage.stat("a")
        assert time.monotonic() - started < 10
        proxy.heal()
        assert storage.get("a") == b"a"


def test_latency_costs_no_round_trip_per_block(proxied) -> None:
    proxy, settings = proxied
    with opened(settings, WALG_STORAGE_STALL_TIMEOUT="60s") as storage:
        storage.exists("warm")
        proxy.latency = 0.002
        content = os.urandom(4 << 20)
        started = time.monotonic()
        storage.put("object", IterReader(iter([content])))
        assert storage.get("object") == content
        # 64 KiB pieces pass the proxy at 2 ms each, both ways; waiting for every block's answer would take longer.
        assert time.monotonic() - started < 3


def test_a_refused_connection_names_the_settings(server) -> None:
    with opened(server, SSH_PORT="9") as storage, pytest.raises(TransientError) as caught:
        storage.stat("x")
    assert "SSH_PORT" in (caught.value.hint or "")


def test_an_unknown_host_name_is_permanent(server) -> None:
    with (
        opened(server, WALG_SSH_PREFIX="ssh://no-such-host.invalid/x") as storage,
        pytest.raises(StorageError) as caught,
    ):
        storage.stat("x")
    assert "WALG_SSH_PREFIX" in (caught.value.hint or "")


def test_password(server) -> None:
    with opened(server, SSH_PRIVATE_KEY_PATH="", SSH_PASSWORD=PASSWORD) as storage:
        storage.put_bytes("by-password", b"x")
    with (
        opened(server, SSH_PRIVATE_KEY_PATH="", SSH_PASSWORD="wrong-one") as storage,
        pytest.raises(AccessDenied) as caught,
    ):
        storage.stat("by-password")
    assert "SSH_PASSWORD" in (caught.value.hint or "")
    assert "wrong-one" not in f"{caught.value} {caught.value.hint}"


def test_user_and_port_of_the_prefix(server) -> None:
    prefix = server["WALG_SSH_PREFIX"].replace("127.0.0.1", f"walg@127.0.0.1:{server['SSH_PORT']}")
    with opened(server, WALG_SSH_PREFIX=prefix, SSH_PORT="", SSH_USERNAME="") as storage:
        storage.put_bytes("by-url", b"x")
        assert storage.get("by-url") == b"x"


def test_key_with_a_passphrase(server, tmp_path: Path) -> None:
    key = asyncssh.read_private_key(server["SSH_PRIVATE_KEY_PATH"])
    path = tmp_path / "key"
    path.write_bytes(key.export_private_key("openssh", passphrase="open sesame"))
    path.chmod(0o600)
    with opened(server, SSH_PRIVATE_KEY_PATH=str(path), SSH_PRIVATE_KEY_PASSPHRASE="open sesame") as storage:
        assert not storage.exists("absent")
    for passphrase in ("", "wrong"):
        with (
            opened(server, SSH_PRIVATE_KEY_PATH=str(path), SSH_PRIVATE_KEY_PASSPHRASE=passphrase) as storage,
            pytest.raises(ConfigError, match="SSH_PRIVATE_KEY_PASSPHRASE"),
        ):
            storage.exists("absent")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WALG_SSH_PREFIX": "host/path"}, "missing url scheme"),
        ({"WALG_SSH_PREFIX": "ssh://host:port/path"}, "WALG_SSH_PREFIX"),
        ({"WALG_SSH_PREFIX": "ssh://user:secret@host/path"}, "SSH_PASSWORD|password"),
        ({"SSH_PORT": "70000"}, "SSH_PORT"),
        ({"SSH_PORT": "abc"}, "SSH_PORT"),
        ({"SSH_PRIVATE_KEY_PATH": "/nonexistent"}, "SSH_PRIVATE_KEY_PATH"),
        ({"SSH_KNOWN_HOSTS": "/nonexistent"}, "SSH_KNOWN_HOSTS"),
    ],
)
def test_bad_settings_are_refused_before_any_connection(server, change: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(server, **change)


def test_a_file_that_is_no_key(server, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("nothing")
    path.chmod(0o600)
    with opened(server, SSH_PRIVATE_KEY_PATH=str(path)) as storage, pytest.raises(ConfigError, match="SSH_PRIVATE_KEY"):
        storage.exists("x")


def test_a_key_open_to_others_is_warned_of(server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    path.write_bytes(Path(server["SSH_PRIVATE_KEY_PATH"]).read_bytes())
    path.chmod(0o644)
    make(server, SSH_PRIVATE_KEY_PATH=str(path))
    assert "chmod 0600" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["unknown", "changed", "revoked", "other port"])
def test_bad_host_keys_are_refused(server, tmp_path: Path, kind: str) -> None:
    mine = Path(server["SSH_KNOWN_HOSTS"]).read_text()
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    where = f"[127.0.0.1]:{server['SSH_PORT']}"
    path = tmp_path / "known"
    path.write_text({
        "unknown": f"[192.0.2.1]:{server['SSH_PORT']} {other}",
        "changed": f"{where} {other}",
        "revoked": f"@revoked {mine}\n{mine}",
        "other port": mine.replace(server["SSH_PORT"], "1"),
    }[kind])  # fmt: skip
    with opened(server, SSH_KNOWN_HOSTS=str(path)) as storage, pytest.raises(AccessDenied) as caught:
        storage.put_bytes("x", b"x")
    assert "host key" in str(caught.value)
    if kind == "changed":
        assert "ssh-keygen -R" in (caught.value.hint or "")
    if kind == "unknown":
        assert "SSH_HOST_KEY_CHECK" in (caught.value.hint or "")
        assert "SHA256:" in str(caught.value)
        with opened(server, SSH_KNOWN_HOSTS=str(path), SSH_HOST_KEY_CHECK="false") as storage:
            storage.put_bytes("unchecked", b"x")


class Poor(asyncssh.SFTPServer):
    """Without posix-rename and fsync, as servers of other makes are."""

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported("not here")

    def fsync(self, file_obj: object) -> None:
        raise asyncssh.SFTPOpUnsupported("not here")


def test_a_server_without_the_extensions() -> None:
    with emulator(factory=Poor) as settings, opened(settings) as storage:
        for content in (b"first", b"second"):
            storage.put_bytes("folder/x", content)
            assert storage.get("folder/x") == content
        assert files(settings) == ["x"]


class Full(asyncssh.SFTPServer):
    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        if offset > 1 << 20:
            raise asyncssh.SFTPNoSpaceOnFilesystem("No space left on device")
        return super().write(file_obj, offset, data)  # type: ignore[return-value]


def test_a_full_disk_leaves_nothing() -> None:
    with emulator(factory=Full) as settings, opened(settings) as storage:
        with pytest.raises((NoSpace, TransientError), match="space"):
            storage.put("folder/x", IterReader(bytes(1 << 20) for _ in range(4)))
        assert files(settings) == []


PUSH = """
import sys
from walg_core.pipeline.reader import IterReader
from walg_core.testing.contexts import make_context
import json, os
context = make_context(json.loads(sys.argv[1]))
storage = context.primary_storage()
def body():
    for number in range(1000):
        yield os.urandom(1 << 20)
        if number == 2:
            print("going", flush=True)
storage.put("folder/object", IterReader(body()))
"""


def test_killed_in_the_middle_of_an_upload(server) -> None:
    settings = {**server, "WALG_SSH_PREFIX": f"{server['WALG_SSH_PREFIX']}/{uuid.uuid4()}"}
    with opened(settings) as storage:
        storage.put_bytes("folder/other", b"x")
        for _ in range(5):
            process = subprocess.Popen(
                [sys.executable, "-c", PUSH, json.dumps(settings)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert process.stdout
            assert process.stdout.readline() == b"going\n"
            time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert [info.key for info in storage.list()] == ["folder/other"]
            with pytest.raises(ObjectNotFound):
                storage.open("folder/object")


ROUND_TRIP = """
import json, sys
from walg_core.pipeline.reader import IterReader
from walg_core.testing.contexts import make_context
context = make_context(json.loads(sys.argv[1]))
storage = context.primary_storage()
piece = bytes(1 << 20)
storage.put("big", IterReader(piece for _ in range(1024)))
reader, count = storage.open("big"), 0
while got := reader.read(1 << 20):
    count += len(got)
assert count == 1 << 30, count
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024)
"""


@pytest.mark.slow
def test_a_gigabyte_in_bounded_memory(server) -> None:
    settings = {**server, "WALG_SSH_PREFIX": f"{server['WALG_SSH_PREFIX']}/{uuid.uuid4()}"}
    done = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert int(done.stdout) < 150, f"{done.stdout} MiB at most"
    with opened(settings) as storage:
        storage.delete(["big"])


def test_many_threads_share_one_connection(proxied) -> None:
    proxy, settings = proxied
    with opened(settings) as storage:
        threads = [threading.Thread(target=storage.put_bytes, args=(f"o{n}", b"x" * n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [info.size for info in storage.list()] == list(range(8))
        assert proxy.connections == 1
