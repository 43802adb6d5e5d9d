"""The adapter of fsspec file systems passes the suite on two of them."""

import os
from pathlib import Path

import pytest
from walg_core.declarations import load
from walg_core.errors import ConfigError, MissingPlugin
from walg_core.settings.config import Config
from walg_core.storage.api import Storage
from walg_core.storage.declared import SETTINGS, STORAGES
from walg_core.testing import StorageConformance


def make(prefix: str) -> Storage:
    kind = next(kind for kind in STORAGES if kind.name == "fsspec")
    storage: Storage = load(kind.factory)(Config((*SETTINGS, *kind.settings)), prefix)
    return storage


class TestFsspecMemory(StorageConformance):
    many = 300

    @pytest.fixture
    def storage(self) -> Storage:
        return make(f"memory://archive-{os.urandom(4).hex()}")


class TestFsspecFile(StorageConformance):
    many = 300

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return make(f"file://{tmp_path}")


def test_a_prefix_without_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="PROTOCOL://"):
        make("/just/a/path")


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises((ConfigError, MissingPlugin), match="nosuchprotocol"):
        make("nosuchprotocol://x")
