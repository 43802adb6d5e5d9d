"""Roles, versions, locks: what goes through S3's own protocol."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from walg_core.builtin import walg_register_settings
from walg_core.errors import AccessDenied, ConfigError, IntegrityError, WalgError
from walg_core.observe import metrics
from walg_core.pipeline.reader import IterReader
from walg_core.settings.config import Config
from walg_core.testing import StorageConformance
from walg_storage_s3 import credentials
from walg_storage_s3.bucket import S3Storage
from walg_storage_s3.plugin import SETTINGS
from walg_storage_s3.signing import Keys
from walg_storage_s3.storage import create

NAMES = ("WEB_IDENTITY_TOKEN_FILE", "ROLE_ARN", "CONTAINER_CREDENTIALS_RELATIVE_URI", "CONTAINER_CREDENTIALS_FULL_URI")


@pytest.fixture(autouse=True)
def no_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", "/nonexistent")


def open_storage(settings: dict[str, str], **more: str) -> S3Storage:
    given = {name: text for name, text in {**settings, **more}.items() if text}
    return create(Config([*walg_register_settings(), *SETTINGS], flags=given), given["WALG_S3_PREFIX"])


def client(server):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
    )


@pytest.fixture
def without_keys(server) -> dict[str, str]:
    return {**server.settings(), "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


class Metadata(http.server.BaseHTTPRequestHandler):
    """A metadata service: instance (second version), container, and a count of what was asked."""

    keys: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _say(self, text: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self) -> None:
        self._say("a-token")

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/container":
            self._say(json.dumps(self.keys), 200 if self.headers["Authorization"] == "of-container" else 403)
        elif self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self._say("", 401)
        elif self.path.endswith("/security-credentials/"):
            self._say("the-role")
        else:
            self._say(json.dumps(self.keys))


@pytest.fixture
def metadata(server) -> Iterator[str]:
    Metadata.asked = []
    Metadata.keys = {
        "AccessKeyId": server.key,
        "SecretAccessKey": server.secret,
        "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600)),
    }
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{service.server_port}"
        service.shutdown()


def test_instance_role(without_keys, metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)
    storage = open_storage(without_keys)
    for number in range(3):
        storage.put_bytes(f"instance/{number}", b"x")
    list(storage.list_versions("instance/"))
    assert len(Metadata.asked) == 2, "the keys are kept until they expire"


def test_container_role(without_keys, metadata: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{metadata}/container")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-container")
    open_storage(without_keys).put_bytes("container", b"x")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong")
    with pytest.raises(AccessDenied, match="container"):
        open_storage(without_keys).put_bytes("container", b"x")


def test_assumed_role(open_server) -> None:
    settings = open_server.settings()
    role = "arn:aws:iam::123456789012:role/backup"
    storage = open_storage(settings, AWS_ROLE_ARN=role, AWS_STS_ENDPOINT=open_server.endpoint)
    storage.put_bytes("by-role", b"x")
    held = storage.rest._keys()
    assert held.token
    assert held.key != open_server.key
    assert client(open_server).get_object(Bucket="bucket", Key="some/path/by-role")["Body"].read() == b"x"


def test_a_role_that_is_refused(server) -> None:
    refused = open_storage(
        server.settings(),
        AWS_ROLE_ARN="arn:aws:iam::123456789012:role/x",
        AWS_STS_ENDPOINT=server.endpoint,
        AWS_SECRET_ACCESS_KEY="wrong",
    )
    with pytest.raises(AccessDenied, match="AWS_ROLE_ARN"):
        refused.stat("x")


def test_web_identity(open_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("a.web.token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
    settings = {**open_server.settings(), "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    storage = open_storage(settings, AWS_STS_ENDPOINT=open_server.endpoint)
    storage.put_bytes("by-token", b"x")
    assert storage.rest._keys().token
    token.unlink()
    with pytest.raises(ConfigError, match="AWS_WEB_IDENTITY_TOKEN_FILE"):
        open_storage(settings, AWS_STS_ENDPOINT=open_server.endpoint).stat("x")


def test_no_credentials_at_all(without_keys) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match="no credentials for S3") as caught:
        open_storage(without_keys).stat("x")
    assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")
    assert time.monotonic() - started < 10


def test_keys_are_renewed_before_they_end() -> None:
    given = iter([credentials.Expiring(Keys(str(n), "s"), time.time() + lasts) for n, lasts in ((1, 10), (2, 9999))])
    provider = credentials.Provider(lambda: next(given))
    assert [provider()["access_key_id"] for _ in range(3)] == ["1", "2", "2"]


@pytest.fixture
def versioned(server) -> dict[str, str]:
    """Settings of a bucket with versions and object lock."""
    bucket = f"v{uuid.uuid4().hex}"
    client(server).create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return server.settings(bucket)


class TestVersioned(StorageConformance):
    many = 300

    @pytest.fixture
    def storage(self, versioned) -> S3Storage:
        return open_storage(versioned, S3_ENABLE_VERSIONING="enabled", S3_MAX_PART_SIZE=str(5 << 20))

    def test_odd_folders(self, open_server) -> None:
        # moto takes the `+` of a query for itself when it checks a signature, where Amazon takes it for a space.
        super().test_odd_folders(open_storage(open_server.settings(), WALG_S3_PREFIX=f"s3://bucket/{uuid.uuid4()}"))

    def test_delete_leaves_no_empty_folder(self, server) -> None:
        # moto lists the folders of delete markers.
        super().test_delete_leaves_no_empty_folder(open_storage(server.settings()))


def test_versions_are_listed_and_deleted(versioned) -> None:
    storage = open_storage(versioned)
    for content in (b"1", b"22", b"333"):
        storage.put_bytes("folder/odd name+ü", content)
    storage.put_bytes("folder/gone", b"x")
    storage.delete(["folder/gone"])
    found = list(storage.list_versions("folder/"))
    assert [(info.key, info.latest, info.deleted) for info in found].count(("folder/gone", True, True)) == 1
    assert {info.size for info in found if info.key == "folder/odd name+ü"} == {1, 2, 3}
    assert [info.size for info in found if info.latest and not info.deleted] == [3]
    assert [info.key for info in storage.list("folder/")] == ["folder/odd name+ü"]
    storage.delete_versions(found)
    assert list(storage.list_versions("folder/")) == []


def test_versions_of_more_than_a_page(versioned) -> None:
    storage = open_storage(versioned)
    for number in range(1005):
        storage.put_bytes(f"many/{number % 5:02}", str(number).encode())
    found = list(storage.list_versions("many/"))
    assert len(found) == 1005
    assert len({info.version for info in found}) == 1005
    storage.delete_versions(found)
    assert list(storage.list_versions("many/")) == []


def test_a_plain_bucket_and_switched_off(server, versioned) -> None:
    storage = open_storage(versioned, S3_ENABLE_VERSIONING="disabled")
    storage.put_bytes("a", b"1")
    storage.put_bytes("a", b"2")
    assert [info.version for info in storage.list_versions()] == [None]
    plain = open_storage(server.settings(), WALG_S3_PREFIX=f"s3://bucket/{uuid.uuid4()}")
    plain.put_bytes("a", b"1")
    (only,) = plain.list_versions()
    plain.delete_versions([only])
    assert list(plain.list()) == []


class TestLocked(StorageConformance):
    """Every object is locked for no time at all, so that the suite can tidy up; the way of writing is what counts."""

    many = 60

    @pytest.fixture
    def storage(self, versioned) -> S3Storage:
        return open_storage(versioned, S3_RETENTION_PERIOD="0", S3_MAX_PART_SIZE=str(5 << 20))

    def test_odd_folders(self, storage) -> None:
        """As in TestVersioned."""

    def test_delete_leaves_no_empty_folder(self, server) -> None:
        # moto lists the folders of delete markers.
        super().test_delete_leaves_no_empty_folder(open_storage(server.settings()))


def test_locks(server, versioned) -> None:
    storage = open_storage(versioned, S3_RETENTION_PERIOD="86400", S3_RETENTION_MODE="COMPLIANCE",
                           S3_MAX_PART_SIZE=str(5 << 20), S3_STORAGE_CLASS="STANDARD_IA", S3_SSE="AES256")  # fmt: skip
    storage.put_bytes("small", b"x")
    storage.put("large", IterReader(os.urandom(1 << 20) for _ in range(11)))
    bucket = versioned["WALG_S3_PREFIX"].split("/")[2]
    for key in ("small", "large"):
        head = client(server).head_object(Bucket=bucket, Key=f"some/path/{key}")
        if key == "small":  # moto forgets the lock of what comes in parts
            assert head["ObjectLockMode"] == "COMPLIANCE"
            assert abs(head["ObjectLockRetainUntilDate"].timestamp() - time.time() - 86400) < 300
        assert head["StorageClass"] == "STANDARD_IA"
        assert head["ServerSideEncryption"] == "AES256"
    with pytest.raises(AccessDenied, match="small") as caught:
        storage.delete_versions(list(storage.list_versions()))
    assert "S3_RETENTION_PERIOD" in (caught.value.hint or "")
    assert [info.key for info in storage.list_versions()] == ["small"]


def test_parts_begin_with_a_lock(versioned, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(versioned, S3_RETENTION_PERIOD="60", S3_MAX_PART_SIZE=str(5 << 20))
    sent: list[tuple[str, dict[str, str]]] = []
    real = storage.rest.request

    def request(method, key="", query=None, body=b"", headers=None):
        sent.append((method, headers or {}))
        return real(method, key, query, body, headers)

    monkeypatch.setattr(storage.rest, "request", request)
    storage.put("large", IterReader(os.urandom(1 << 20) for _ in range(11)))
    assert [method for method, _ in sent] == ["POST", "PUT", "PUT", "PUT", "POST"]
    assert sent[0][1]["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert all("Content-MD5" in headers for method, headers in sent if method == "PUT")


def test_a_locked_upload_that_fails_leaves_no_parts(server, versioned) -> None:
    storage = open_storage(versioned, S3_RETENTION_PERIOD="60", S3_MAX_PART_SIZE=str(5 << 20))

    def failing() -> Iterator[bytes]:
        for _ in range(12):
            yield bytes(1 << 20)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        storage.put("broken", IterReader(failing()))
    with pytest.raises(IntegrityError):
        storage.put("short", IterReader(bytes(1 << 20) for _ in range(12)), 13 << 20)
    bucket = versioned["WALG_S3_PREFIX"].split("/")[2]
    assert "Uploads" not in client(server).list_multipart_uploads(Bucket=bucket)
    assert list(storage.list()) == []


def test_answers_and_bytes_are_counted(server) -> None:
    storage = open_storage(server.settings(), WALG_S3_PREFIX=f"s3://bucket/{uuid.uuid4()}")
    before, written, read = metrics.responses(), metrics.s3_bytes_written.value, metrics.s3_bytes_read.value
    storage.put_bytes("x", b"12345")
    assert storage.get("x") == b"12345"
    with contextlib.suppress(WalgError):
        storage.stat("absent")
    after = metrics.responses()
    assert metrics.s3_bytes_written.value - written == 5
    assert metrics.s3_bytes_read.value - read == 5
    assert after[404] - before.get(404, 0) == 1
    assert after[200] - before.get(200, 0) == 2
