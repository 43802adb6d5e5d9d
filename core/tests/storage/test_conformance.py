"""The built-in storages and the views on them pass the suite."""

from pathlib import Path

import pytest
from walg_core.storage.api import Storage
from walg_core.storage.local import LocalStorage
from walg_core.storage.memory import MemoryStorage
from walg_core.testing import StorageConformance
from walg_core.testing.conformance import cases


class TestMemory(StorageConformance):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()


class TestLocal(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(str(tmp_path))


class TestPrefix(StorageConformance):
    key_reserve = len("some/where/")

    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage().folder("some/where")


def test_the_suite_is_as_large_as_promised() -> None:
    assert len(cases()) >= 60
    assert len(cases()) == len(set(cases()))
