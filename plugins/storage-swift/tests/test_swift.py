"""Swift keeps the storage contract, logs in every way, survives its failures, and explains itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from walg_core.builtin import SETTINGS as CORE_SETTINGS
from walg_core.errors import (
    AccessDenied,
    ConfigError,
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    Throttled,
    TransientError,
    WalgError,
)
from walg_core.pipeline.reader import BytesReader, IterReader, read_all
from walg_core.settings.config import Config
from walg_core.storage.layers.retry import Policy, RetryStorage
from walg_core.testing import FaultProxy, StorageConformance
from walg_storage_swift.plugin import SETTINGS
from walg_storage_swift.storage import SwiftStorage, create

MIB = 1 << 20


def open_storage(settings: dict[str, str], **more: str) -> SwiftStorage:
    given = {name: value for name, value in {**settings, **more}.items() if value}
    return create(Config([*CORE_SETTINGS, *SETTINGS], flags=given), given["WALG_SWIFT_PREFIX"])


def fresh(server, **more: str) -> SwiftStorage:
    return open_storage(server.settings(f"swift://backups/{uuid.uuid4()}"), **more)


def client(server):
    """The client that OpenStack's own people write."""
    swiftclient = pytest.importorskip("swiftclient")
    return swiftclient.Connection(f"{server.url}/auth/v1.0", "test:tester", "testing")


class TestSwift(StorageConformance):
    @pytest.fixture
    def storage(self, server) -> Iterator[SwiftStorage]:
        made = fresh(server)
        yield made
        made.close()


@pytest.mark.slow
class TestSegmented(StorageConformance):
    """Large objects in segments."""

    many = 20

    @pytest.fixture
    def storage(self, server) -> Iterator[SwiftStorage]:
        settings = server.settings(f"swift://segmented/{uuid.uuid4()}", version=2)
        server.make_container("segmented_segments")
        made = open_storage(settings, SWIFT_SEGMENT_SIZE=str(5 * MIB))
        yield made
        made.close()
        _, left = client(server).get_container("segmented_segments", full_listing=True)
        assert left == [], "segments are left behind"


def through_layers(storage: SwiftStorage, retries: int = 8) -> RetryStorage:
    return RetryStorage(storage, Policy(retries, first=0.01, longest=0.1))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_identity_service(server, version: int) -> None:
    storage = open_storage(server.settings(version=version))
    storage.put_bytes(f"by-v{version}", b"x")
    assert storage.get(f"by-v{version}") == b"x"


@pytest.mark.parametrize("change", [
    {"OS_AUTH_URL": "", "ST_AUTH": "URL/auth/v1.0", "OS_USERNAME": "", "ST_USER": "test:tester", "OS_PASSWORD": "",
     "ST_KEY": "testing"},
    {"OS_USERNAME": "", "OS_USER_ID": "tester", "OS_TENANT_NAME": "", "OS_PROJECT_ID": "test"},
    {"OS_TENANT_NAME": "wrong", "OS_PROJECT_NAME": "test", "OS_PROJECT_DOMAIN_NAME": "Default"},
    {"OS_TENANT_NAME": "", "OS_TRUST_ID": "trust-test"},
    {"OS_USERNAME": "", "OS_PASSWORD": "", "OS_APPLICATION_CREDENTIAL_ID": "tester",
     "OS_APPLICATION_CREDENTIAL_SECRET": "testing", "OS_TENANT_NAME": ""},
    {"OS_PASSWORD": "", "OS_APPLICATION_CREDENTIAL_NAME": "any", "OS_APPLICATION_CREDENTIAL_SECRET": "testing"},
    {"OS_AUTH_URL": "URL", "ST_AUTH_VERSION": ""},
    {"OS_AUTH_URL": "URL", "OS_IDENTITY_API_VERSION": "2.0"},
    {"OS_ENDPOINT_TYPE": "internalURL"},
    {"GOSWIFT_INTERNAL": "true"},
    {"OS_STORAGE_URL": "URL/v1/AUTH_test"},
    {"OS_PASSWORD": "", "WALG_OS_PASSWORD": "testing"},
])  # fmt: skip
def test_every_way_in(server, change: dict[str, str]) -> None:
    given = {name: value.replace("URL", server.url) if "://" not in value else value for name, value in change.items()}
    given = {name: change[name] if name == "OS_ENDPOINT_TYPE" else value for name, value in given.items()}
    storage = open_storage(server.settings(), **given)
    name = f"way-{uuid.uuid4()}"
    storage.put_bytes(name, b"x")
    assert storage.get(name) == b"x"


def test_a_token_of_the_settings_is_used_and_renewed(server) -> None:
    url, token = client(server).get_auth()
    only = open_storage(
        server.settings(), OS_AUTH_URL="", OS_STORAGE_URL=url, OS_AUTH_TOKEN=token, OS_USERNAME="", OS_PASSWORD=""
    )
    only.put_bytes("by-token", b"x")
    both = open_storage(server.settings(), OS_STORAGE_URL=url, OS_AUTH_TOKEN="expired-token")
    assert both.get("by-token") == b"x"
    server.control("forget")
    with pytest.raises(AccessDenied, match="OS_AUTH_TOKEN"):
        only.get("by-token")


def test_an_expired_token_is_renewed(server) -> None:
    storage = fresh(server)
    storage.put_bytes("a", b"x")
    server.control("forget")
    storage.put_bytes("b", b"x")
    server.control("forget")
    assert [info.key for info in storage.list()] == ["a", "b"]
    server.control("forget")
    # A body that cannot be sent twice: the token is tried before, once it is no longer quite fresh.
    storage._session._good_until = 0
    storage.put("large", IterReader(bytes(MIB) for _ in range(12)))
    server.control("forget")
    assert len(storage.get("large")) == 12 * MIB


def test_objects_lie_where_the_original_looks(server) -> None:
    open_storage(server.settings()).put_bytes("wal_005/x.lz4", b"data")
    headers, body = client(server).get_object("backups", "some/path/wal_005/x.lz4")
    assert body == b"data"
    large = open_storage(server.settings())
    large.put("basebackups_005/part.tar", IterReader(bytes(MIB) for _ in range(20)), 20 * MIB)
    headers = client(server).head_object("backups", "some/path/basebackups_005/part.tar")
    assert "x-static-large-object" not in headers
    assert headers["etag"] == hashlib.md5(bytes(20 * MIB)).hexdigest()


def test_dynamic_large_objects_of_others(server) -> None:
    theirs, storage = client(server), fresh(server)
    theirs.put_container("backups_segments")
    name = storage.description.rpartition("/")[2]
    for number in range(3):
        theirs.put_object("backups_segments", f"{name}/dlo/{number}", b"%d" % number * 10)
    theirs.put_object("backups", f"{name}/dlo", b"", headers={"X-Object-Manifest": f"backups_segments/{name}/dlo/"})
    storage._segments._exists = None
    assert storage.stat("dlo").size == 30
    assert [info.size for info in storage.list()] == [30]
    assert storage.get("dlo") == b"0" * 10 + b"1" * 10 + b"2" * 10
    assert read_all(storage.open("dlo", 5, 10)) == b"0" * 5 + b"1" * 5
    storage.copy("dlo", "whole")
    storage.delete(["dlo"])
    assert [info.key for info in storage.list()] == ["whole"]
    assert theirs.get_container("backups_segments", prefix=name)[1] == []
    assert len(storage.get("whole")) == 30


def test_deleting_many_looks_only_at_those_with_segments(server) -> None:
    prefix = f"swift://mixed/{uuid.uuid4()}"
    storage = open_storage(server.settings(prefix), SWIFT_SEGMENT_SIZE=str(4 * MIB))
    names = [f"f/{number:03d}" for number in range(50)]
    for name in names:
        storage.put_bytes(name, b"x")
    storage.put("f/025", IterReader(bytes(MIB) for _ in range(9)))
    other = open_storage(server.settings(prefix))
    other.put_bytes("kept", b"x")
    server.control("log")
    other.delete(names)
    seen = server.control("log")
    assert len(seen) < 12, seen
    assert client(server).get_container("mixed_segments")[1] == []
    assert [info.key for info in storage.list()] == ["kept"]


def test_segments_of_a_replaced_object_go(server) -> None:
    prefix = f"swift://replaced/{uuid.uuid4()}"
    storage = open_storage(server.settings(prefix), SWIFT_SEGMENT_SIZE=str(4 * MIB))
    storage.put("object", IterReader(bytes(MIB) for _ in range(10)))
    assert len(client(server).get_container("replaced_segments")[1]) == 3
    assert [info.size for info in storage.list()] == [10 * MIB]
    storage.put("object", IterReader(bytes(MIB) for _ in range(9)))
    assert len(client(server).get_container("replaced_segments")[1]) == 3
    storage.put_bytes("object", b"small")
    assert client(server).get_container("replaced_segments")[1] == []
    storage.put("known", IterReader(bytes(MIB) for _ in range(9)), 9 * MIB)
    assert storage.stat("known").size == 9 * MIB


def test_a_segmented_put_that_fails_leaves_nothing(server) -> None:
    prefix = f"swift://broken/{uuid.uuid4()}"
    storage = open_storage(server.settings(prefix), SWIFT_SEGMENT_SIZE=str(4 * MIB))

    def failing() -> Iterator[bytes]:
        for _ in range(14):
            yield bytes(MIB)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        storage.put("object", IterReader(failing()))
    with pytest.raises(IntegrityError):
        storage.put("object", IterReader(bytes(MIB) for _ in range(14)), 15 * MIB)
    storage.put_bytes("there", b"x")
    with pytest.raises(ObjectExists):
        storage.put("there", IterReader(bytes(MIB) for _ in range(14)), None, True)
    assert client(server).get_container("broken_segments")[1] == []
    assert [info.key for info in storage.list()] == ["there"]


def test_error_of_the_body_passes_a_plain_put(server) -> None:
    storage = fresh(server)

    def failing() -> Iterator[bytes]:
        for _ in range(14):
            yield bytes(MIB)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        storage.put("object", IterReader(failing()))
    assert not storage.exists("object")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"OS_PASSWORD": "wrong-secret"}, AccessDenied, "OS_PASSWORD"),
        ({"OS_USERNAME": "nobody"}, AccessDenied, "OS_USERNAME"),
        ({"OS_TENANT_NAME": "absent"}, AccessDenied, "OS_PROJECT_NAME"),
        ({"OS_TENANT_NAME": ""}, WalgError, "OS_PROJECT_NAME"),
        ({"OS_REGION_NAME": "elsewhere"}, PermanentError, "OS_REGION_NAME"),
        ({"OS_ENDPOINT_TYPE": "admin"}, PermanentError, "OS_ENDPOINT_TYPE"),
        ({"WALG_SWIFT_PREFIX": "swift://no-such-container/x"}, PermanentError, "WALG_SWIFT_PREFIX"),
        ({"OS_AUTH_URL": "http://127.0.0.1:9/v3"}, TransientError, "OS_AUTH_URL"),
        ({"OS_AUTH_URL": "http://nohost.invalid/v3"}, TransientError, "OS_AUTH_URL"),
        ({"OS_AUTH_URL": "https"}, PermanentError, "OS_CACERT"),
        ({"OS_AUTH_URL": "not a url/v3"}, WalgError, "OS_AUTH_URL"),
        ({"OS_STORAGE_URL": "http://127.0.0.1:9/v1/AUTH_test"}, TransientError, "OS_STORAGE_URL"),
    ],
)
@pytest.mark.parametrize("operation", ["list", "stat", "open", "put", "delete"])
def test_wrong_settings_are_named(server, change, kind, words, operation) -> None:
    if change.get("OS_AUTH_URL") == "https":
        change = {"OS_AUTH_URL": f"https://127.0.0.1:{server.port}/v3"}
    storage = open_storage(server.settings(), **change)
    if not change.get("OS_TENANT_NAME", "x"):
        storage = open_storage({k: v for k, v in server.settings().items() if k != "OS_TENANT_NAME"})
    run = {
        "list": lambda: list(storage.list()),
        "stat": lambda: storage.stat("x"),
        "open": lambda: read_all(storage.open("x")),
        "put": lambda: storage.put_bytes("x", b"x"),
        "delete": lambda: storage.delete(["x"]),
    }[operation]
    with pytest.raises(kind) as caught:
        run()
    assert not isinstance(caught.value, ObjectNotFound)
    assert words in f"{caught.value} {getattr(caught.value, 'hint', '')}"
    assert "testing" not in str(caught.value)
    assert "wrong-secret" not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WALG_SWIFT_PREFIX": "backups/path"}, "missing url scheme"),
        ({"OS_AUTH_URL": ""}, "OS_AUTH_URL"),
        ({"OS_USERNAME": ""}, "OS_USERNAME"),
        ({"OS_PASSWORD": ""}, "OS_PASSWORD"),
        ({"ST_AUTH_VERSION": "4"}, "ST_AUTH_VERSION"),
        ({"OS_ENDPOINT_TYPE": "outer"}, "OS_ENDPOINT_TYPE"),
        ({"OS_CACERT": "/nonexistent"}, "OS_CACERT"),
        ({"SWIFT_SEGMENT_SIZE": "1000"}, "SWIFT_SEGMENT_SIZE"),
        ({"GOSWIFT_TIMEOUT": "soon"}, "GOSWIFT_TIMEOUT"),
        ({"OS_APPLICATION_CREDENTIAL_ID": "x"}, "OS_APPLICATION_CREDENTIAL_SECRET"),
    ],
)
def test_bad_settings_are_refused_before_any_request(change, words) -> None:
    settings = {
        "WALG_SWIFT_PREFIX": "swift://backups/x", "OS_AUTH_URL": "http://127.0.0.1:9/v3", "OS_USERNAME": "u",
        "OS_PASSWORD": "p",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=words):
        open_storage(settings, **change)


def test_a_burst_of_refusals_is_waited_out(server) -> None:
    storage = fresh(server)
    server.control("fail/503/1")
    with pytest.raises(Throttled):
        storage.put_bytes("object", b"x")
    layered = through_layers(storage)
    server.control("fail/503/4")
    layered.put_bytes("object", b"x")
    server.control("fail/500/4")
    assert layered.get("object") == b"x"
    server.control("fail/429/3")
    assert [info.key for info in layered.list()] == ["object"]


@pytest.fixture
def behind_proxy(server) -> Iterator[tuple[FaultProxy, SwiftStorage, SwiftStorage]]:
    """A proxy before the account, a storage through it, and one that goes directly."""
    prefix = f"swift://backups/{uuid.uuid4()}"
    with FaultProxy("127.0.0.1", server.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/v1/AUTH_test"
        storage = open_storage(
            server.settings(prefix), OS_STORAGE_URL=url, GOSWIFT_TIMEOUT="2s", GOSWIFT_CONNECT_TIMEOUT="2s"
        )
        yield proxy, storage, open_storage(server.settings(prefix))


def test_a_connection_lost_while_reading_is_resumed(behind_proxy) -> None:
    proxy, storage, direct = behind_proxy
    body = os.urandom(6 * MIB)
    direct.put_bytes("object", body)
    proxy.direction, proxy.faults_left = "down", 3
    for fault in ("reset_after", "close_after", "stall_after"):
        setattr(proxy, fault, 2 * MIB)
        proxy.faults_left = 2
        proxy.drop()
        began = time.monotonic()
        assert read_all(through_layers(storage).open("object")) == body, fault
        assert time.monotonic() - began < 20
        setattr(proxy, fault, None)


def test_a_connection_lost_while_writing_leaves_nothing(behind_proxy) -> None:
    proxy, storage, direct = behind_proxy
    proxy.direction = "up"
    for fault in ("reset_after", "close_after", "stall_after"):
        setattr(proxy, fault, 5 * MIB)
        proxy.drop()
        began = time.monotonic()
        with pytest.raises(TransientError):
            storage.put("object", IterReader(bytes(MIB) for _ in range(20)))
        assert time.monotonic() - began < 20
        setattr(proxy, fault, None)
    proxy.heal()
    assert list(direct.list()) == []
    proxy.reset_after, proxy.faults_left = 3 * MIB, 2
    through_layers(storage).put("object", BytesReader(bytes(20 * MIB)))
    assert direct.stat("object").size == 20 * MIB


def test_a_silent_server_is_given_up(behind_proxy) -> None:
    proxy, storage, _ = behind_proxy
    proxy.silent = True
    began = time.monotonic()
    for call in (lambda: storage.stat("x"), lambda: list(storage.list()), lambda: storage.put_bytes("x", b"x")):
        with pytest.raises(TransientError):
            call()
    assert time.monotonic() - began < 15


@pytest.fixture
def behind_tls(server, tmp_path) -> Iterator[tuple[str, str]]:
    """URL of the server behind TLS, and the file of the certificate that is to be trusted."""
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=swift -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run(
            ["openssl", *command.split(), "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with contextlib.suppress(OSError):
                    inner = context.wrap_socket(plain, server_side=True)
                    outer = socket.create_connection(("127.0.0.1", server.port))
                    for pair in ((inner, outer), (outer, inner)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}", str(certificate)
    listener.close()


def test_certificates(server, behind_tls) -> None:
    url, certificate = behind_tls
    way = {"OS_AUTH_URL": f"{url}/v3", "OS_STORAGE_URL": f"{url}/v1/AUTH_test"}
    storage = open_storage(server.settings(), **way, OS_CACERT=certificate)
    body = os.urandom(9 * MIB)
    storage.put("by-tls", IterReader([body]))
    assert storage.get("by-tls") == body
    with pytest.raises(PermanentError) as caught:
        open_storage(server.settings(), **way).stat("by-tls")
    assert "OS_CACERT" in (caught.value.hint or "")


def test_a_slow_line_is_no_failure(behind_proxy) -> None:
    """2.5 MB/s, and a limit of two seconds without progress: four seconds of a body pass."""
    proxy, storage, direct = behind_proxy
    proxy.bandwidth = 2_500_000
    body = os.urandom(5 * MIB)
    storage.put_bytes("whole", body)
    storage.put("stream", IterReader([body, body]))
    proxy.heal()
    assert direct.get("whole") == body
    assert direct.get("stream") == body + body


def test_requests_are_few(server) -> None:
    storage = fresh(server)
    storage.put_bytes("warm/up", b"x")
    names = [f"wal_005/{number}" for number in range(20)]
    server.control("log")
    for name in names:
        storage.put_bytes(name, b"x")
    assert len(server.control("log")) == 20
    assert len(list(storage.list("wal_005/"))) == 20
    assert len(server.control("log")) == 1
    assert storage.get(names[0]) == b"x"
    assert len(server.control("log")) == 1
    plain = open_storage(server.settings(storage.description.replace("backups", "plain")))
    for name in names:
        plain.put_bytes(name, b"x")
    server.control("log")
    plain.delete(names)
    assert len(server.control("log")) <= 2


PUSH = """
import sys
from walg_core.pipeline.reader import IterReader
from walg_storage_swift.storage import create
from walg_core.builtin import SETTINGS as CORE
from walg_core.settings.config import Config
from walg_storage_swift.plugin import SETTINGS
import json, time, resource
settings, pieces, pause = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
def body():
    for number in range(pieces):
        if pause and number == 30:
            sys.stdout.write("half\\n"); sys.stdout.flush(); time.sleep(pause)
        yield bytes(1 << 20)
storage = create(Config([*CORE, *SETTINGS], flags=settings), settings["WALG_SWIFT_PREFIX"])
storage.put("object", IterReader(body()))
reader, count = storage.open("object"), 0
while piece := reader.read(1 << 20):
    count += len(piece)
assert count == pieces << 20
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def run_push(settings: dict[str, str], pieces: int, pause: float = 0) -> subprocess.Popen[bytes]:
    import json

    words = [sys.executable, "-c", PUSH, json.dumps(settings), str(pieces), str(pause)]
    return subprocess.Popen(words, stdout=subprocess.PIPE)


@pytest.mark.parametrize("segments", ["0", str(8 * MIB)])
def test_killed_in_the_middle_nothing_is_visible(server, segments: str) -> None:
    settings = server.settings(f"swift://killed{segments}/{uuid.uuid4()}") | {"SWIFT_SEGMENT_SIZE": segments}
    process = run_push(settings, 60, 60)
    assert process.stdout
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.3)
    assert list(open_storage(settings).list()) == []
    assert list(open_storage(settings).list_dirs()) == []


@pytest.mark.slow
@pytest.mark.parametrize("segments", ["0", str(256 * MIB)])
def test_a_gigabyte_takes_little_memory(server, segments: str) -> None:
    settings = server.settings(f"swift://big/{uuid.uuid4()}") | {"SWIFT_SEGMENT_SIZE": segments}
    process = run_push(settings, 1024)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert int(out) / 1024 < 150, f"{int(out) / 1024:.0f} MB"
    open_storage(settings).delete(["object"])


def test_identity_is_spelled_like_the_original(server) -> None:
    found = open_storage(server.settings()).identity()
    assert found.startswith('swift{"Container":"backups","RootPath":"some/path","EnvVariables":{"OS_AUTH_URL":')
    assert "testing" not in found


def test_through_the_command(server) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "OS_", "ST_"))}

    def run(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "walg_core", *words],
            env={**environment, **server.settings()},
            input=data,
            capture_output=True,
            check=False,
            timeout=60,
        )

    put = run("st", "put", "-s", "folder/object", "--no-compress", data=b"hello")
    assert put.returncode == 0, put.stderr
    listed = run("st", "ls", "folder")
    assert b"object" in listed.stdout, listed.stderr
    assert run("st", "cat", "folder/object").stdout == b"hello"
