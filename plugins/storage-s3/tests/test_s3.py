"""S3 keeps the storage contract, sends what the settings say, and explains itself."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from walg_core.builtin import SETTINGS as CORE_SETTINGS
from walg_core.errors import AccessDenied, ConfigError, PermanentError, WalgError
from walg_core.pipeline.reader import BytesReader, IterReader
from walg_core.settings.config import Config
from walg_core.testing import StorageConformance
from walg_storage_s3.plugin import SETTINGS
from walg_storage_s3.storage import create


def open_storage(settings: dict[str, str], **more: str):
    given = {**settings, **more}
    config = Config([*CORE_SETTINGS, *SETTINGS], flags=given)
    return create(config, given["WALG_S3_PREFIX"])


def client(server):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
    )


class TestS3(StorageConformance):
    @pytest.fixture
    def storage(self, server) -> Iterator[object]:
        settings = server.settings()
        made = open_storage(settings, WALG_S3_PREFIX=f"s3://bucket/{uuid.uuid4()}", S3_MAX_PART_SIZE=str(5 << 20))
        yield made
        made.close()

    @pytest.fixture
    def unchecked(self, open_server) -> Iterator[object]:
        made = open_storage(open_server.settings(), WALG_S3_PREFIX=f"s3://bucket/{uuid.uuid4()}")
        yield made
        made.close()

    def test_odd_folders(self, unchecked) -> None:
        # moto takes the `+` of a query for itself when it checks a signature, where Amazon takes it for a space.
        super().test_odd_folders(unchecked)


def test_folder_markers_are_no_objects(server, caplog) -> None:
    """Consoles make empty objects `folder/`; an empty object of a name without the slash stays one."""
    storage = open_storage(server.settings())
    for name in ("", "marked/", "marked/deep/"):
        client(server).put_object(Bucket="bucket", Key=f"some/path/{name}", Body=b"")
    storage.put_bytes("marked/object", b"data")
    storage.put_bytes("marked/empty", b"")
    assert [info.key for info in storage.list("marked/")] == ["marked/empty", "marked/object"]
    assert [info.key for info in storage.list_dir("marked/")] == ["marked/empty", "marked/object"]
    assert "marked" not in [info.key for info in storage.list()]
    assert list(storage.list_dirs("marked/")) == ["marked/deep/"]
    assert not caplog.records


def test_objects_lie_where_the_original_looks(server) -> None:
    open_storage(server.settings()).put_bytes("wal_005/x.lz4", b"data")
    assert client(server).get_object(Bucket="bucket", Key="some/path/wal_005/x.lz4")["Body"].read() == b"data"


@pytest.mark.parametrize(("name", "value", "key", "expected"), [
    ("S3_STORAGE_CLASS", "STANDARD_IA", "StorageClass", "STANDARD_IA"),
    ("S3_SSE", "AES256", "ServerSideEncryption", "AES256"),
])  # fmt: skip
def test_headers_of_uploads(server, name, value, key, expected) -> None:
    storage = open_storage(server.settings(), **{name: value}, S3_MAX_PART_SIZE=str(5 << 20))
    storage.put_bytes("small", b"x")
    storage.put("large", IterReader(bytes(1 << 20) for _ in range(11)))
    for name in ("small", "large"):
        assert client(server).head_object(Bucket="bucket", Key=f"some/path/{name}")[key] == expected


def test_kms_key(server) -> None:
    storage = open_storage(server.settings(), S3_SSE="aws:kms", S3_SSE_KMS_ID="key-1")
    storage.put_bytes("kms", b"x")
    assert "key-1" in client(server).head_object(Bucket="bucket", Key="some/path/kms")["SSEKMSKeyId"]


def test_parts_are_equal_and_nothing_stays_after_a_failure(server) -> None:
    storage = open_storage(server.settings(), S3_MAX_PART_SIZE=str(5 << 20))
    storage.put("parts", IterReader(bytes(3 << 20) for _ in range(4)))
    parts = client(server).get_object_attributes(
        Bucket="bucket", Key="some/path/parts", ObjectAttributes=["ObjectParts", "ObjectSize"]
    )
    assert parts["ObjectSize"] == 12 << 20

    def failing() -> Iterator[bytes]:
        for _ in range(12):
            yield bytes(1 << 20)
        raise OSError("the disk is gone")

    for number in range(20):
        with pytest.raises(OSError, match="the disk is gone"):
            storage.put(f"broken{number}", IterReader(failing()))
        assert not storage.exists(f"broken{number}")
    assert "Uploads" not in client(server).list_multipart_uploads(Bucket="bucket")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, AccessDenied, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, AccessDenied, "AWS_ACCESS_KEY_ID"),
        ({"WALG_S3_PREFIX": "s3://no-such-bucket/x"}, PermanentError, "WALG_S3_PREFIX"),
    ],
)
def test_wrong_settings_are_named(server, change, kind, words) -> None:
    storage = open_storage(server.settings(), **change)
    with pytest.raises(kind) as caught:
        list(storage.list())
    assert words in (caught.value.hint or "")
    assert server.secret not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WALG_S3_PREFIX": "bucket/path"}, "missing url scheme"),
        ({"S3_MAX_PART_SIZE": "1000"}, "S3_MAX_PART_SIZE"),
        ({"S3_SSE": "aws:kms"}, "S3_SSE_KMS_ID"),
        ({"S3_SSE_KMS_ID": "k"}, "S3_SSE_KMS_ID"),
        ({"S3_SSE_C": "k"}, "S3_SSE"),
        ({"S3_CA_CERT_FILE": "/nonexistent"}, "S3_CA_CERT_FILE"),
        ({"S3_REQUEST_ADDITIONAL_HEADERS": "text"}, "headers"),
        ({"S3_RETENTION_PERIOD": "60", "S3_RETENTION_MODE": "for ever"}, "S3_RETENTION_MODE"),
        ({"S3_MAX_RETRIES": "many"}, "S3_MAX_RETRIES"),
    ],
)
def test_bad_settings_are_refused_before_any_request(server, change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        open_storage(server.settings(), **change)


def test_a_server_that_is_away_is_told_in_time(server) -> None:
    storage = open_storage(server.settings(), AWS_ENDPOINT="http://127.0.0.1:9", S3_MAX_RETRIES="0")
    with pytest.raises(WalgError):
        storage.stat("x")


def test_keys_of_a_profile(server, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(f"[other]\naws_access_key_id={server.key}\naws_secret_access_key={server.secret}\n")
    settings = server.settings()
    del settings["AWS_ACCESS_KEY_ID"], settings["AWS_SECRET_ACCESS_KEY"]
    storage = open_storage(settings, AWS_SHARED_CREDENTIALS_FILE=str(path), AWS_PROFILE="other")
    storage.put_bytes("by-profile", b"x")
    assert storage.get("by-profile") == b"x"
    with pytest.raises(ConfigError, match="AWS_PROFILE"):
        open_storage(settings, AWS_SHARED_CREDENTIALS_FILE=str(path), AWS_PROFILE="absent")


def test_through_the_command(server) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WALG_", "AWS_"))}

    def run(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "walg_core", *words],
            env={**environment, **server.settings()},
            input=data,
            capture_output=True,
            check=False,
            timeout=60,
        )

    assert run("st", "ls").returncode == 0
    storage = open_storage(server.settings())
    storage.put("folder/object", BytesReader(b"hello"))
    listed = run("st", "ls", "folder")
    assert b"object" in listed.stdout, listed.stderr
