"""From settings to a storage: which kind wins, what is missing, which layers stand around it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from walg_core.context import Context
from walg_core.declarations import StorageType
from walg_core.errors import ConfigError, MissingPlugin
from walg_core.settings.declare import prefix_setting
from walg_core.storage.api import Storage
from walg_core.storage.layers.limit import LimitedStorage, disk_bucket
from walg_core.storage.layers.stall import StallStorage
from walg_core.storage.memory import MemoryStorage
from walg_core.storage.registry import choose, open_config

Make = Callable[[Mapping[str, Any]], Context]


def layers(storage: Storage) -> list[str]:
    names = [type(storage).__name__]
    while hasattr(storage, "inner"):
        storage = storage.inner
        names.append(type(storage).__name__)
    return names


class FarAway(MemoryStorage):
    remote = True


def far_away(_config: object, prefix: str) -> FarAway:
    return FarAway(prefix)


def add_kind(context: Context, name: str, order: int) -> None:
    context.catalog.storages[name.lower()] = StorageType(
        name.lower(), prefix=f"WALG_{name}_PREFIX", factory="", settings=[prefix_setting(name, "test")], order=order
    )


def test_nothing_configured(walg_context: Make) -> None:
    with pytest.raises(ConfigError, match=r"\[WALG_OSS_PREFIX WALG_S3_PREFIX WALG_FILE_PREFIX .*WALG_SSH_PREFIX\]"):
        walg_context({}).primary_storage()


def test_a_kind_that_is_not_installed(walg_context: Make) -> None:
    context = walg_context({"WALG_SWIFT_PREFIX": "swift://container/path"})
    context.catalog.storages = {k: v for k, v in context.catalog.storages.items() if v.prefix != "WALG_SWIFT_PREFIX"}
    with pytest.raises(MissingPlugin, match="walg-storage-swift"):
        context.primary_storage()


def test_the_first_in_order_wins_with_a_warning(
    tmp_path: Path, walg_context: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    context = walg_context({"WALG_FILE_PREFIX": str(tmp_path), "WALG_ZZ_PREFIX": "x", "WALG_AA_PREFIX": "y"})
    add_kind(context, "ZZ", 2)
    add_kind(context, "AA", 100)
    kind, prefix = choose(context, context.config)
    assert (kind.name, prefix) == ("zz", "x")
    assert "WALG_ZZ_PREFIX is used, WALG_FILE_PREFIX, WALG_AA_PREFIX ignored" in capsys.readouterr().err


def test_the_old_name_of_a_prefix(tmp_path: Path, walg_context: Make) -> None:
    assert walg_context({"WALE_FILE_PREFIX": str(tmp_path)}).primary_storage().description == f"file://{tmp_path}"


def test_the_storage_prefix_is_cleaned(tmp_path: Path, walg_context: Make) -> None:
    storage = walg_context({"WALG_FILE_PREFIX": str(tmp_path), "WALG_STORAGE_PREFIX": "//a///b/"}).primary_storage()
    storage.put_bytes("x", b"")
    assert (tmp_path / "a" / "b" / "x").exists()


def test_a_nested_configuration_does_not_take_the_parents_prefix(tmp_path: Path, walg_context: Make) -> None:
    context = walg_context({"WALG_FILE_PREFIX": str(tmp_path)})
    with pytest.raises(ConfigError, match="No storage is configured"):
        open_config(context, context.config.nested({}, "nested"))


def test_layers_of_a_local_storage(tmp_path: Path, walg_context: Make) -> None:
    names = layers(walg_context({"WALG_FILE_PREFIX": str(tmp_path)}).primary_storage())
    assert names[-1] == "LocalStorage"
    assert "RetryStorage" in names
    assert "StallStorage" not in names


def remote_context(walg_context: Make, **settings: str) -> Context:
    context = walg_context({"WALG_FAR_PREFIX": "there", **settings})
    add_kind(context, "FAR", 1)
    context.catalog.storages["far"].factory = f"{__name__}:far_away"
    return context


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


@pytest.mark.usefixtures("importable")
def test_layers_of_a_remote_storage(walg_context: Make) -> None:
    storage = remote_context(walg_context, WALG_NETWORK_RATE_LIMIT="1000000").primary_storage()
    names = layers(storage)
    # The limiter stands outside the stall detection: waiting for the bucket is no stall.
    assert names.index(LimitedStorage.__name__) < names.index(StallStorage.__name__)
    assert names.index("RetryStorage") < names.index(LimitedStorage.__name__)


@pytest.mark.usefixtures("importable")
def test_stall_detection_can_be_switched_off(walg_context: Make) -> None:
    assert "StallStorage" not in layers(remote_context(walg_context, WALG_STORAGE_STALL_TIMEOUT="0").primary_storage())


def test_turbo_lifts_the_limits(tmp_path: Path, walg_context: Make) -> None:
    context = walg_context(
        {"WALG_FILE_PREFIX": str(tmp_path), "WALG_NETWORK_RATE_LIMIT": "1", "WALG_DISK_RATE_LIMIT": "1"}
    )
    assert disk_bucket(context) is disk_bucket(context) is not None
    context.turbo = True
    assert disk_bucket(context) is None
    assert "LimitedStorage" not in layers(context.primary_storage())


def test_mirrors_need_storages(tmp_path: Path, walg_context: Make) -> None:
    context = walg_context({"WALG_FILE_PREFIX": str(tmp_path), "WALG_MIRROR_STORAGES": "default,other"})
    with pytest.raises(ConfigError, match='"other" is not found'):
        context.write_storage()


def test_the_cold_path_stays_light(tmp_path: Path) -> None:
    """Opening and using the local storage imports nothing that takes long."""
    import subprocess
    import sys

    code = (
        "import sys; before = set(sys.modules)\n"
        "from walg_core.storage.local import LocalStorage\n"
        "from walg_core.storage import registry\n"
        "from walg_core.storage.layers import retry, prefix\n"
        f"storage = retry.RetryStorage(LocalStorage({str(tmp_path)!r})).folder('x')\n"
        "storage.put_bytes('a', b'x'); storage.get('a'); storage.exists('b'); list(storage.list())\n"
        "heavy = {'json', 're', 'typing', 'dataclasses', 'logging', 'asyncio', 'random', 'threading', 'hashlib',"
        " 'datetime', 'typer', 'pluggy', 'importlib.metadata', 'tempfile', 'shutil', 'pathlib'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
