"""Azure Blob Storage keeps the storage contract, and explains itself."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from walg_core.builtin import SETTINGS as CORE_SETTINGS
from walg_core.errors import AccessDenied, ConfigError, ObjectNotFound, PermanentError, WalgError
from walg_core.pipeline.reader import IterReader, read_all
from walg_core.settings.config import Config
from walg_core.testing import StorageConformance
from walg_storage_azure.plugin import SETTINGS
from walg_storage_azure.storage import create
from walg_storage_azure.testing import Emulator, emulator


def open_storage(settings: dict[str, str], **more: str):
    given = {**settings, **more}
    return create(Config([*CORE_SETTINGS, *SETTINGS], flags=given), given["WALG_AZ_PREFIX"])


@pytest.fixture(scope="session")
def server() -> Iterator[Emulator]:
    with emulator() as made:
        yield made


class TestAzure(StorageConformance):
    @pytest.fixture
    def storage(self, server) -> Iterator[object]:
        made = open_storage(server.settings(f"azure://container/{uuid.uuid4()}"), AZURE_BUFFER_SIZE=str(1 << 20))
        yield made
        made.close()


def client(server: Emulator):
    blob = pytest.importorskip("azure.storage.blob", reason="the official SDK is not installed")
    from walg_storage_azure.testing import ACCOUNT, KEY

    return blob.ContainerClient(
        f"{server.url}/{ACCOUNT}", "backups", credential={"account_name": ACCOUNT, "account_key": KEY}
    )


def test_objects_lie_where_the_original_looks(server) -> None:
    """In one blob of that name, whatever its size; read and written by the official SDK too."""
    storage = open_storage(server.settings(), AZURE_BUFFER_SIZE=str(1 << 20))
    storage.put_bytes("wal_005/x.lz4", b"data")
    large = bytes(range(256)) * 20_000
    storage.put("wal_005/large", IterReader([large]))
    official = client(server)
    assert official.download_blob("some/path/wal_005/x.lz4").readall() == b"data"
    assert official.download_blob("some/path/wal_005/large").readall() == large
    official.upload_blob("some/path/theirs", b"1234")
    assert read_all(storage.open("theirs")) == b"1234"


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"AZURE_STORAGE_ACCESS_KEY": "d3Jvbmc="}, AccessDenied, "AZURE_STORAGE_ACCESS_KEY"),
        ({"WALG_AZ_PREFIX": "azure://no-such-container/x"}, PermanentError, "no-such-container"),
        ({"AZURE_ENDPOINT": "http://127.0.0.1:1/devstoreaccount1", "AZURE_TRY_TIMEOUT": "1"}, WalgError, "AZURE"),
    ],
)
def test_what_is_wrong_is_named(server, change, kind, words) -> None:
    storage = open_storage(server.settings(), **change)
    for act in (lambda: storage.put_bytes("x", b"x"), lambda: list(storage.list()), lambda: storage.get("x")):
        with pytest.raises(kind) as caught:
            act()
        assert words in f"{caught.value} {caught.value.hint}"
        assert not isinstance(caught.value, ObjectNotFound)
        assert "d3Jvbmc=" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"WALG_AZ_PREFIX": "container/path"}, "missing url scheme"),
        ({"AZURE_STORAGE_ACCOUNT": ""}, "AZURE_STORAGE_ACCOUNT"),
        ({"AZURE_STORAGE_ACCESS_KEY": "not base64!"}, "AZURE_STORAGE_ACCESS_KEY"),
        ({"AZURE_MAX_BUFFERS": "many"}, "AZURE_MAX_BUFFERS"),
        ({"AZURE_STORAGE_ACCESS_KEY": "", "AZURE_STORAGE_SAS_TOKEN": "no token"}, "AZURE_STORAGE_SAS_TOKEN"),
        ({"AZURE_ENVIRONMENT_NAME": "", "AZURE_ENDPOINT": "nonsense"}, "AZURE_ENDPOINT"),
    ],
)
def test_bad_settings_are_refused_before_any_request(change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        open_storage(Emulator(1).settings(), **change)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "https://acc.blob.core.windows.net"),
        ({"AZURE_ENVIRONMENT_NAME": "AzureChinaCloud"}, "https://acc.blob.core.chinacloudapi.cn"),
        ({"AZURE_ENVIRONMENT_NAME": "Unknown"}, "https://acc.blob.core.windows.net"),
        (
            {"AZURE_ENDPOINT_SUFFIX": "example.org", "AZURE_ENVIRONMENT_NAME": "AzureChinaCloud"},
            "https://acc.blob.example.org",
        ),
    ],
)
def test_where_an_account_lives(change, expected) -> None:
    from walg_storage_azure.storage import endpoint_of

    settings = {"AZURE_STORAGE_ACCOUNT": "acc", **change}
    assert endpoint_of(Config([*CORE_SETTINGS, *SETTINGS], flags=settings), "acc") == expected
