"""OSS keeps the storage contract, aborts what fails, renews its keys, and explains itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walg_core.builtin import SETTINGS as CORE_SETTINGS
from walg_core.errors import (
    AccessDenied,
    ConfigError,
    IntegrityError,
    NoSpace,
    ObjectExists,
    ObjectNotFound,
    PermanentError,
    Throttled,
    TransientError,
)
from walg_core.pipeline.reader import BytesReader, IterReader, read_all
from walg_core.settings.config import Config
from walg_core.storage.layers.retry import Policy, RetryStorage
from walg_core.testing import FaultProxy, StorageConformance
from walg_storage_oss.plugin import SETTINGS
from walg_storage_oss.role import string_to_sign
from walg_storage_oss.storage import OssStorage, create
from walg_storage_oss.upload import LARGEST_PART, MOST_PARTS, part_sizes

MIB = 1 << 20


def open_storage(given_settings: dict[str, str], **more: str) -> OssStorage:
    flags = {name: value for name, value in {**given_settings, **more}.items() if value}
    return create(Config([*CORE_SETTINGS, *SETTINGS], flags=flags), flags["WALG_OSS_PREFIX"])


def fresh(server, **more: str) -> OssStorage:
    return open_storage(server.settings(f"oss://backups/{uuid.uuid4()}"), **more)


class TestOss(StorageConformance):
    @pytest.fixture
    def storage(self, server) -> Iterator[OssStorage]:
        made = fresh(server)
        yield made
        made.close()
        assert server.control("uploads") == 0, "an upload is left behind"


def through_layers(storage: OssStorage, retries: int = 8) -> RetryStorage:
    return RetryStorage(storage, Policy(retries, first=0.01, longest=0.1))


def client(server):
    import alibabacloud_oss_v2 as oss

    provider = oss.credentials.StaticCredentialsProvider("ak", "sk")
    config = oss.Config(
        region="cn-test",
        endpoint=server.url,
        credentials_provider=provider,
        use_path_style=True,
        signature_version="v1",
    )
    return oss, oss.Client(config)


def test_objects_lie_where_the_original_looks(server) -> None:
    storage = open_storage(server.settings())
    storage.put_bytes("wal_005/x.lz4", b"data")
    oss, theirs = client(server)
    got = theirs.get_object(oss.GetObjectRequest(bucket="backups", key="some/path/wal_005/x.lz4"))
    assert got.body.read() == b"data"


def test_parts_are_of_the_size_asked_for(server) -> None:
    storage = fresh(server, OSS_UPLOAD_PART_SIZE=str(MIB))
    server.control("log")
    storage.put("object", IterReader(bytes(700_000) for _ in range(6)))
    seen = server.control("log")
    assert sum("partNumber" in line for line in seen) == 5
    assert storage.stat("object").size == 4_200_000
    # Every part carries its length, so that a broken one is sent again alone.
    server.control("fail/500/InternalError/2")
    storage.put("again", IterReader(bytes(700_000) for _ in range(6)))
    assert storage.stat("again").size == 4_200_000


def test_parts_that_left_count_as_progress(server) -> None:
    class Watched(BytesReader):
        moves = 0

        def moved(self) -> None:
            self.moves += 1

    body = Watched(bytes(4 * MIB + 1))
    fresh(server, OSS_UPLOAD_PART_SIZE=str(MIB)).put("object", body)
    assert body.moves == 5


def test_copy_in_parts(server, monkeypatch) -> None:
    monkeypatch.setattr("walg_storage_oss.storage.LARGEST_COPY", MIB)
    storage = fresh(server, OSS_COPY_PART_SIZE=str(MIB))
    body = os.urandom(3 * MIB + 5)
    storage.put_bytes("source", body)
    server.control("log")
    storage.copy("source", "target")
    assert sum("partNumber" in line for line in server.control("log")) == 4
    assert storage.get("target") == body
    with pytest.raises(ObjectNotFound):
        storage.copy("missing", "target")


@given(st.integers(100 << 10, 8 * MIB), st.integers(0, 1 << 45))
@settings(max_examples=50, deadline=None)
def test_parts_suffice_for_what_is_announced(size: int, total: int) -> None:
    assert next(part_sizes(size, total)) * MOST_PARTS >= total


def test_parts_grow_where_nothing_is_announced() -> None:
    sizes = list(part_sizes(6 * MIB, None))
    assert sizes[:2000] == [6 * MIB] * 2000
    assert sizes == sorted(sizes)
    assert sizes[-1] <= LARGEST_PART
    assert sum(sizes) > 250 << 30


def test_what_fails_is_aborted(server) -> None:
    storage = fresh(server, OSS_UPLOAD_PART_SIZE=str(MIB))

    def failing() -> Iterator[bytes]:
        for _ in range(5):
            yield bytes(MIB)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        storage.put("object", IterReader(failing()))
    with pytest.raises(IntegrityError):
        storage.put("object", IterReader(bytes(MIB) for _ in range(5)), 6 * MIB)
    with pytest.raises(IntegrityError):
        storage.put("object", IterReader(bytes(MIB) for _ in range(7)), 6 * MIB)
    storage.put_bytes("there", b"x")
    with pytest.raises(ObjectExists):
        storage.put("there", IterReader(bytes(MIB) for _ in range(5)), None, True)
    assert server.control("uploads") == 0
    assert [info.key for info in storage.list()] == ["there"]


def test_an_answer_that_was_lost_is_no_failure(server) -> None:
    """The request to complete was done, its answer did not come; trying again finds no upload any more."""
    storage = fresh(server, OSS_UPLOAD_PART_SIZE=str(MIB))
    body = os.urandom(3 * MIB + 1)
    original = storage._call

    def call(name: str, request: object, **more: str) -> object:
        if name == "complete_multipart_upload":
            server.control("fail-after/500/InternalError/1")
        return original(name, request, **more)

    storage._call = call  # type: ignore[method-assign]
    assert storage.put("object", IterReader([body])) == len(body)
    assert storage.get("object") == body


def test_damage_is_noticed(server, monkeypatch) -> None:
    storage = fresh(server)
    storage.put_bytes("object", b"content")
    from walg_storage_oss.storage import Download

    class Spoiled(Download):
        def _next(self) -> bytes:
            self._pieces = iter([b"c0ntent"])
            return super()._next()

    monkeypatch.setattr("walg_storage_oss.storage.Download", Spoiled)
    with pytest.raises(IntegrityError, match="CRC-64"):
        storage.get("object")


@pytest.mark.parametrize("bad", [2, 100])
def test_parts_that_arrive_damaged_are_sent_again(server, bad: int) -> None:
    storage = fresh(server, OSS_UPLOAD_PART_SIZE=str(MIB))
    original, spoiled = storage._call, []

    def call(name: str, request: object, **more: str) -> object:
        result = original(name, request, **more)
        if name == "upload_part" and len(spoiled) < bad:
            spoiled.append(name)
            result.hash_crc64 = "1"
        return result

    storage._call = call  # type: ignore[method-assign]
    body = os.urandom(2 * MIB + 5)
    if bad == 2:
        storage.put("object", BytesReader(body))
        assert storage.get("object") == body
    else:
        with pytest.raises(TransientError, match="other bytes"):
            storage.put("object", BytesReader(body))
        assert list(storage.list()) == []
    assert server.control("uploads") == 0


def test_a_whole_that_is_not_its_parts_does_not_stay(server) -> None:
    storage = fresh(server, OSS_UPLOAD_PART_SIZE=str(MIB))
    original = storage._call

    def call(name: str, request: object, **more: str) -> object:
        result = original(name, request, **more)
        if name == "complete_multipart_upload":
            result.hash_crc64 = "1"
        return result

    storage._call = call  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="other bytes"):
        storage.put("object", BytesReader(bytes(2 * MIB)))
    assert list(storage.list()) == []


def test_small_objects_carry_their_md5(server, monkeypatch) -> None:
    storage = fresh(server)
    monkeypatch.setattr("walg_storage_oss.storage.Pieces", lambda body: body[:-1] + b"!")
    with pytest.raises(TransientError, match="InvalidDigest"):
        storage.put_bytes("object", b"content")
    assert not storage.exists("object")


def test_a_role_is_assumed_and_its_keys_are_renewed(server) -> None:
    role = {"OSS_ROLE_ARN": "acs:ram::1:role/backup", "OSS_ROLE_SESSION_NAME": "nightly"}
    storage = fresh(server, **role)
    storage.put_bytes("object", b"x")
    assert storage.get("object") == b"x"
    server.control("expire")
    with pytest.raises(AccessDenied):
        storage.get("object")
    renewing = fresh(server, **role)
    renewing.put_bytes("object", b"x")
    server.control("expire")
    import alibabacloud_oss_v2  # noqa: F401 - the keys are asked for when the client is there

    provider = renewing._client._client._options.credentials_provider
    role_of_it = provider._func.__closure__[1].cell_contents
    role_of_it._until = time.time() + 100
    assert renewing.get("object") == b"x"
    wrong = fresh(server, **{**role, "OSS_ROLE_ARN": "acs:ram::1:role/other"})
    with pytest.raises(AccessDenied, match="OSS_ROLE_ARN"):
        wrong.stat("x")


def test_signature_of_the_service_for_roles() -> None:
    """The example of the API reference, "Request signatures" (its secret is `testsecret`)."""
    import base64
    import hashlib
    import hmac

    parameters = {
        "Action": "DescribeRegions", "Format": "XML", "Version": "2014-05-26", "AccessKeyId": "testid",
        "SignatureMethod": "HMAC-SHA1", "Timestamp": "2016-02-23T12:46:24Z", "SignatureVersion": "1.0",
        "SignatureNonce": "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf",
    }  # fmt: skip
    digest = hmac.new(b"testsecret&", string_to_sign(parameters).encode(), hashlib.sha1).digest()
    assert base64.b64encode(digest) == b"OLeaidS1JvxuMvnyHOwuJ+uX5qY="


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"OSS_ACCESS_KEY_SECRET": "wrong-secret"}, AccessDenied, "OSS_ACCESS_KEY_SECRET"),
        ({"OSS_ACCESS_KEY_ID": "nobody"}, AccessDenied, "OSS_ACCESS_KEY_ID"),
        ({"OSS_SESSION_TOKEN": "wrong-token"}, AccessDenied, "OSS_SESSION_TOKEN"),
        ({"OSS_REGION": "cn-other"}, AccessDenied, "OSS_REGION"),
        ({"WALG_OSS_PREFIX": "oss://no-such-bucket/x"}, PermanentError, "WALG_OSS_PREFIX"),
        ({"WALG_OSS_PREFIX": "oss://No_Bucket/x"}, PermanentError, "WALG_OSS_PREFIX"),
        ({"OSS_ENDPOINT": "http://127.0.0.1:9"}, TransientError, "OSS_ENDPOINT"),
        ({"OSS_ENDPOINT": "https://127.0.0.1:9"}, TransientError, "OSS_ENDPOINT"),
        ({"OSS_ENDPOINT": "http://nohost.invalid"}, TransientError, "OSS_ENDPOINT"),
        ({"OSS_ENDPOINT": "https"}, PermanentError, "OSS_ENDPOINT"),
    ],
)
@pytest.mark.parametrize("operation", ["list", "stat", "open", "put", "delete", "large put"])
def test_wrong_settings_are_named(server, change, kind, words, operation) -> None:
    if change.get("OSS_ENDPOINT") == "https":
        change = {"OSS_ENDPOINT": server.url.replace("http:", "https:")}
    storage = open_storage(server.settings(), **{"OSS_MAX_RETRIES": "1", **change})
    run = {
        "list": lambda: list(storage.list()),
        "stat": lambda: storage.stat("x"),
        "open": lambda: read_all(storage.open("x")),
        "put": lambda: storage.put_bytes("x", b"x"),
        "delete": lambda: storage.delete(["x"]),
        "large put": lambda: storage.put("x", BytesReader(bytes(7 * MIB))),
    }[operation]
    with pytest.raises(kind) as caught:
        run()
    assert not isinstance(caught.value, ObjectNotFound)
    assert words in f"{caught.value} {caught.value.hint}"
    assert "\n" not in str(caught.value)
    assert "wrong-" not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WALG_OSS_PREFIX": "backups/path"}, "missing url scheme"),
        ({"WALG_OSS_PREFIX": "oss://backups"}, "a path is needed"),
        ({"OSS_REGION": ""}, "oss region is required"),
        ({"OSS_REGION": "oss-cn-hangzhou"}, "OSS_REGION"),
        ({"OSS_ACCESS_KEY_ID": ""}, "access key ID and secret are required"),
        ({"OSS_ACCESS_KEY_SECRET": ""}, "access key ID and secret are required"),
        ({"OSS_UPLOAD_PART_SIZE": "1000"}, "OSS_UPLOAD_PART_SIZE"),
        ({"OSS_COPY_PART_SIZE": "1000"}, "OSS_COPY_PART_SIZE"),
        ({"OSS_ENDPOINT": "::bad::"}, "OSS_ENDPOINT"),
        ({"OSS_MAX_RETRIES": "many"}, "OSS_MAX_RETRIES"),
    ],
)
def test_bad_settings_are_refused_before_any_request(server, change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        open_storage(server.settings(), **change)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "ServiceBusy", Throttled),
        (429, "TooManyRequests", Throttled),
        (500, "InternalError", TransientError),
        (403, "SecurityTokenExpired", AccessDenied),
        (403, "InvalidObjectState", PermanentError),
        (403, "UserDisable", AccessDenied),
        (409, "QuotaExceeded", NoSpace),
        (400, "InvalidArgument", PermanentError),
    ],
)
@pytest.mark.parametrize("operation", ["stat", "list", "put"])
def test_what_answers_mean(server, status, code, kind, operation) -> None:
    storage = fresh(server, OSS_MAX_RETRIES="1")
    storage.put_bytes("object", b"x")
    server.control(f"fail/{status}/{code}/1")
    with pytest.raises(kind):
        {
            "stat": lambda: storage.stat("object"),
            "list": lambda: list(storage.list()),
            "put": lambda: storage.put_bytes("x", b"x"),
        }[operation]()


def test_a_burst_of_refusals_is_waited_out(server) -> None:
    storage = through_layers(fresh(server, OSS_MAX_RETRIES="1"))
    server.control("fail/503/ServiceBusy/4")
    storage.put_bytes("object", b"x")
    server.control("fail/500/InternalError/4")
    assert storage.get("object") == b"x"
    server.control("fail/429/TooManyRequests/3")
    assert [info.key for info in storage.list()] == ["object"]


@pytest.fixture
def behind_proxy(server, monkeypatch) -> Iterator[tuple[FaultProxy, OssStorage, OssStorage]]:
    """A proxy before the endpoint, a storage through it, and one that goes directly."""
    monkeypatch.setattr("walg_storage_oss.storage.TIMEOUT", 2)
    plain = server.settings(f"oss://backups/{uuid.uuid4()}")
    with FaultProxy("127.0.0.1", server.port) as proxy:
        way = {"OSS_ENDPOINT": f"http://127.0.0.1:{proxy.port}", "OSS_MAX_RETRIES": "1", "OSS_CONNECT_TIMEOUT": "2"}
        storage = open_storage(plain, **way)
        yield proxy, storage, open_storage(plain)


def test_a_connection_lost_while_reading_is_resumed(behind_proxy) -> None:
    proxy, storage, direct = behind_proxy
    body = os.urandom(6 * MIB)
    direct.put_bytes("object", body)
    proxy.direction = "down"
    for fault in ("reset_after", "close_after", "stall_after"):
        setattr(proxy, fault, 2 * MIB)
        proxy.faults_left = 2
        proxy.drop()
        began = time.monotonic()
        assert read_all(through_layers(storage).open("object")) == body, fault
        assert time.monotonic() - began < 20
        setattr(proxy, fault, None)


def test_a_connection_lost_while_writing_leaves_nothing(behind_proxy, server) -> None:
    proxy, storage, direct = behind_proxy
    proxy.direction = "up"
    for fault in ("reset_after", "close_after", "stall_after"):
        setattr(proxy, fault, 2 * MIB)
        proxy.drop()
        began = time.monotonic()
        with pytest.raises(TransientError):
            storage.put("object", IterReader(bytes(MIB) for _ in range(20)))
        assert time.monotonic() - began < 20
        setattr(proxy, fault, None)
    proxy.heal()
    assert list(direct.list()) == []
    assert server.control("uploads") == 0
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
    names = [f"wal_005/{number}" for number in range(20)]
    server.control("log")
    for name in names:
        storage.put_bytes(name, b"x")
    assert len(server.control("log")) == 20
    assert len(list(storage.list("wal_005/"))) == 20
    assert storage.get(names[0]) == b"x"
    storage.stat(names[0])
    storage.delete(names)
    assert len(server.control("log")) == 4


def test_a_bucket_with_versions_is_told_of(server, capfd) -> None:
    storage = fresh(server)
    storage.put_bytes("object", b"x")
    server.control("versioned/on")
    try:
        storage.delete(["object"])
        storage.delete(["object"])
    finally:
        server.control("versioned/off")
    assert capfd.readouterr().err.count("keeps versions") == 1


PUSH = """
import json, sys, time
from walg_core.builtin import SETTINGS as CORE
from walg_core.pipeline.reader import IterReader
from walg_core.settings.config import Config
from walg_storage_oss.plugin import SETTINGS
from walg_storage_oss.storage import create
settings, pieces, pause = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
def body():
    for number in range(pieces):
        if pause and number == 30:
            sys.stdout.write("half\\n"); sys.stdout.flush(); time.sleep(pause)
        yield bytes(1 << 20)
storage = create(Config([*CORE, *SETTINGS], flags=settings), settings["WALG_OSS_PREFIX"])
storage.put("object", IterReader(body()))
reader, count = storage.open("object"), 0
while piece := reader.read(1 << 20):
    count += len(piece)
assert count == pieces << 20
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def run_push(given_settings: dict[str, str], pieces: int, pause: float = 0) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", PUSH, json.dumps(given_settings), str(pieces), str(pause)]
    return subprocess.Popen(words, stdout=subprocess.PIPE)


def test_killed_in_the_middle_nothing_is_visible(server) -> None:
    given_settings = server.settings(f"oss://killed/{uuid.uuid4()}")
    process = run_push(given_settings, 60, 60)
    assert process.stdout
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.3)
    storage = open_storage(given_settings)
    assert list(storage.list()) == []
    assert list(storage.list_dirs()) == []
    oss, theirs = client(server)
    for row in theirs.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket="killed")).uploads or ():
        theirs.abort_multipart_upload(
            oss.AbortMultipartUploadRequest(bucket="killed", key=row.key, upload_id=row.upload_id)
        )


@pytest.mark.slow
def test_a_gigabyte_takes_little_memory(server) -> None:
    given_settings = server.settings(f"oss://big/{uuid.uuid4()}")
    process = run_push(given_settings, 1024)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert int(out) / 1024 < 150, f"{int(out) / 1024:.0f} MB"
    open_storage(given_settings).delete(["object"])


def test_nothing_heavy_is_imported_before_it_is_needed(server) -> None:
    code = (
        "import json, sys; from walg_core.builtin import SETTINGS as C; from walg_core.settings.config import Config\n"
        "from walg_storage_oss.plugin import SETTINGS; from walg_storage_oss.storage import create\n"
        "s = json.loads(sys.argv[1]); create(Config([*C, *SETTINGS], flags=s), s['WALG_OSS_PREFIX'])\n"
        "sys.exit(any(name in sys.modules for name in ('alibabacloud_oss_v2', 'requests', 'urllib3')))"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(server.settings())], check=False)
    assert done.returncode == 0


def test_identity_has_no_secret(server) -> None:
    found = open_storage(server.settings(), OSS_ACCESS_KEY_SECRET="very-secret").identity()
    assert found.startswith('oss{"Region":"cn-test","Bucket":"backups"')
    assert "very-secret" not in found


def test_through_the_command(server) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "OSS_"))}

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
