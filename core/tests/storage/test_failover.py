"""Failover storages: selection, statuses, their file, and what dead storages mean for "not found"."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from walg_core.context import Context
from walg_core.errors import AbsenceUnsure, ConfigError, NoAliveStorage, ObjectNotFound, TransientError
from walg_core.pipeline.transfer import find
from walg_core.storage.aliveness import Averaging, Status, StatusCache, format_time, parse_time, scaled
from walg_core.storage.api import ObjectInfo
from walg_core.storage.failover import CHECK_KEY, group
from walg_core.storage.identity import go_json
from walg_core.storage.layers.union import UnionStorage
from walg_core.storage.memory import MemoryStorage
from walg_core.storage.registry import open_for_reading, open_named, storage_names
from walg_core.testing import FaultyStorage
from walg_core.testing.contexts import make_context

DEFAULTS = Averaging(0.99, 0.88, (0.01, 0.05), (0.1, 0.5))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def settings(tmp_path: Path, **more: Any) -> dict[str, Any]:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir(exist_ok=True)
    failovers = {name: {"WALG_FILE_PREFIX": str(tmp_path / name)} for name in ("two", "three")}
    return {"WALG_FILE_PREFIX": str(tmp_path / "one"), "WALG_FAILOVER_STORAGES": failovers, **more}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(settings(tmp_path))


# selection


def test_the_primary_is_first_and_the_others_sorted(context: Context) -> None:
    assert storage_names(context) == ["default", "three", "two"]
    assert context.write_storage().name == "default"
    assert [storage.name for storage in context.read_storages()] == ["default", "three", "two"]


def test_a_storage_that_cannot_be_configured_is_dead(tmp_path: Path) -> None:
    values = settings(tmp_path)
    (tmp_path / "one").rmdir()
    context = make_context(values)
    assert context.write_storage().name == "three"
    assert [storage.name for storage in context.read_storages()] == ["three", "two"]
    with pytest.raises(AbsenceUnsure, match="default"):
        context.read_storage().stat("x")


def test_nothing_alive(tmp_path: Path) -> None:
    values = settings(tmp_path)
    for name in ("one", "two", "three"):
        (tmp_path / name).rmdir()
    with pytest.raises(NoAliveStorage, match="no alive storages"):
        make_context(values).write_storage()


def test_the_write_check_really_writes(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so a full disk stands for one that cannot be written."""
    from walg_core.errors import NoSpace
    from walg_core.storage.local import LocalStorage

    put = LocalStorage.put

    def full(self: LocalStorage, key: str, *rest: Any) -> int:
        if self.root.endswith("one"):
            assert key == CHECK_KEY
            raise NoSpace("disk full")
        return put(self, key, *rest)

    monkeypatch.setattr(LocalStorage, "put", full)
    assert context.write_storage().name == "three"
    assert context.read_storages()[0].name == "default"


def test_targets(context: Context) -> None:
    assert context.write_storage("two").name == "two"
    assert [storage.name for storage in context.read_storages("TWO")] == ["two"]
    with pytest.raises(ConfigError, match=r'storage with name "nope" is not found, available storages: \[default'):
        context.write_storage("nope")


def test_the_target_setting(tmp_path: Path) -> None:
    assert make_context(settings(tmp_path, WALG_TARGET_STORAGE="two")).write_storage().name == "two"


def test_a_target_without_failovers(tmp_path: Path) -> None:
    context = make_context({"WALG_FILE_PREFIX": str(tmp_path)})
    assert context.write_storage("default").name == "default"
    with pytest.raises(ConfigError, match="available storages"):
        context.write_storage("second")


@pytest.mark.parametrize("name", ["default", "all"])
def test_reserved_names(tmp_path: Path, name: str) -> None:
    values = {"WALG_FILE_PREFIX": str(tmp_path), "WALG_FAILOVER_STORAGES": {name: {"WALG_FILE_PREFIX": "/"}}}
    with pytest.raises(ConfigError, match="reserved"):
        make_context(values).write_storage()


def test_the_storage_prefix_applies_to_failovers_too(tmp_path: Path) -> None:
    context = make_context(settings(tmp_path, WALG_STORAGE_PREFIX="/below//here/"))
    for name in storage_names(context):
        open_named(context, name).put_bytes("x", b"")
    assert all((tmp_path / name / "below/here/x").exists() for name in ("one", "two", "three"))


def test_checks_can_be_switched_off(tmp_path: Path) -> None:
    context = make_context(settings(tmp_path, WALG_FAILOVER_STORAGES_CHECK="false"))
    assert [storage.name for storage in context.read_storages()] == ["default", "three", "two"]
    context.close()
    assert not list(tmp_path.glob(".walg_storage*"))


def test_a_fresh_status_saves_the_check(tmp_path: Path, context: Context) -> None:
    context.write_storage()
    context.close()
    before = os.listdir(tmp_path / "one")
    again = make_context(settings(tmp_path))
    cache = group(again).caches["rw"]
    checks: list[str] = []
    cache.check = lambda key, alive: checks.append(key)  # type: ignore[method-assign]
    assert again.write_storage().name == "default"
    assert checks == []
    assert os.listdir(tmp_path / "one") == before


def test_a_hanging_check_ends_at_its_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from walg_core.storage.local import LocalStorage

    def hang(self: LocalStorage, prefix: str = "") -> Iterator[ObjectInfo]:
        time.sleep(5)
        return iter(())

    monkeypatch.setattr(LocalStorage, "list_dir", hang)
    context = make_context(settings(tmp_path, WALG_FAILOVER_STORAGES_CHECK_TIMEOUT="300ms"))
    started = time.monotonic()
    with pytest.raises(NoAliveStorage):
        context.read_storages()
    assert time.monotonic() - started < 3


def test_deletions_ask_for_the_write_check(context: Context, home: Path) -> None:
    open_for_reading(context, writable=True)
    context.close()
    assert (home / ".walg_storage_rw_status_cache").exists()
    assert not (home / ".walg_storage_ro_status_cache").exists()


# the union


def test_not_found_is_only_said_when_all_answered(context: Context) -> None:
    union = context.read_storage()
    with pytest.raises(ObjectNotFound):
        union.stat("missing")
    with pytest.raises(ObjectNotFound, match=r"Archive 'missing' does not exist\."):
        find(context, union, "wal_005/missing")


def test_a_failing_storage_makes_absence_unsure() -> None:
    good, bad = MemoryStorage("good"), FaultyStorage(MemoryStorage("bad"))
    bad.break_all()
    union = UnionStorage([bad, good])
    good.put_bytes("there", b"x")
    assert union.get("there") == b"x"
    with pytest.raises(AbsenceUnsure, match="bad"):
        union.open("missing")


def test_probing_goes_on_past_an_unsure_absence(tmp_path: Path, context: Context) -> None:
    good, bad = MemoryStorage("good"), FaultyStorage(MemoryStorage("bad"))
    bad.break_all()
    good.put_bytes("wal_005/x.zst", b"")
    assert find(context, UnionStorage([bad, good]), "wal_005/x") == ("wal_005/x.zst", "zst")
    with pytest.raises(AbsenceUnsure):
        find(context, UnionStorage([bad, good]), "wal_005/y")


def test_union_listing_shows_a_name_once() -> None:
    one, two = MemoryStorage("one"), MemoryStorage("two")
    one.put_bytes("a/1", b"first")
    two.put_bytes("a/1", b"second one")
    two.put_bytes("b", b"")
    union = UnionStorage([one, two])
    assert [(info.key, info.size) for info in union.list()] == [("a/1", 5), ("b", 0)]
    assert union.list_dirs() == ["a/"]
    union.put_bytes("b", b"new")
    assert (one.exists("b"), two.get("b")) == (False, b"new")
    union.delete(["a/1"])
    assert not one.exists("a/1")
    assert not two.exists("a/1")


# the arithmetic


def test_a_check_of_a_new_storage() -> None:
    alive = Status().checked(True, 5)
    assert (alive.potential, alive.actual, alive.previous, alive.updated) == (0, 0, True, 5)
    assert alive.alive(DEFAULTS)
    assert not Status().checked(False, 5).alive(DEFAULTS)


def test_a_listing_after_a_check_gives_what_the_original_writes() -> None:
    status = Status().checked(True, 5).averaged(True, 2000, DEFAULTS, 6)
    assert (status.potential, status.actual, status.previous) == (100, 100, True)


def test_failures_kill_slowly_and_successes_revive() -> None:
    status = Status(100, 100, True, 0)
    failures = 0
    while status.alive(DEFAULTS):
        status = status.averaged(False, 1000, DEFAULTS, 0)
        failures += 1
    assert 1 <= failures <= 15
    status = Status(100, 0, False, 0)
    successes = 0
    while not status.alive(DEFAULTS):
        status = status.averaged(True, 1000, DEFAULTS, 0)
        successes += 1
    assert 5 <= successes <= 50


def test_weights_grow_with_the_logarithm() -> None:
    assert [scaled(1000, n) for n in (0, 1, 10, 100)] == [1000, 1000, 2000, 3000]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALIVE_LIMIT", "1"), ("DEAD_LIMIT", "0.995"), ("ALPHA_ALIVE_MIN", "0.06"), ("ALPHA_DEAD_MAX", "0")],
)
def test_wrong_parameters_are_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match="invalid EMA params"):
        make_context(settings(tmp_path, **{f"WALG_FAILOVER_STORAGES_CACHE_EMA_{name}": value})).write_storage()


# the file


def test_the_file_is_what_the_original_writes(context: Context, home: Path) -> None:
    for storage in context.read_storages():
        list(storage.list_dir("basebackups_005/"))
    context.close()
    raw = (home / ".walg_storage_ro_status_cache").read_text()
    assert raw == json.dumps(json.loads(raw), separators=(",", ":"))
    entries = json.loads(raw)
    assert [name.split("#")[0] for name in entries] == ["default", "three", "two"]
    assert all(len(name.split("#")[1]) == 32 for name in entries)
    for entry in entries.values():
        assert list(entry) == ["potential_aliveness", "actual_aliveness", "previous_aliveness", "updated"]
        assert (entry["potential_aliveness"], entry["actual_aliveness"], entry["previous_aliveness"]) == (
            100,
            100,
            True,
        )
        assert entry["updated"].endswith("Z")


def test_the_configuration_is_spelled_as_go_does() -> None:
    assert go_json({"RootPath": "/a<b>&c é"}) == '{"RootPath":"/a\\u003cb\\u003e\\u0026c é"}'


def test_foreign_entries_and_newer_ones_survive(home: Path) -> None:
    path = home / ".walg_storage_rw_status_cache"
    now = time.time_ns()
    entry = {"potential_aliveness": 3.5, "actual_aliveness": 1e-7, "previous_aliveness": False}
    path.write_text(json.dumps({"other#1": {**entry, "updated": "2026-11-22T13:00:56.948395271+01:00"}}))
    cache = StatusCache("rw", 900, DEFAULTS)
    cache.check("mine#2", True)
    cache.save()
    found = json.loads(path.read_text())
    assert sorted(found) == ["mine#2", "other#1"]
    assert found["other#1"] == {**entry, "updated": "2026-11-22T12:00:56.948395271Z"}
    assert '"actual_aliveness":0.0000001' in path.read_text()
    assert abs(parse_time(found["mine#2"]["updated"]) - now) < 60e9
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", '{"a#b":{}}', '{"a#b":7}', '{"nohash":{}}', "\xff"])
def test_a_damaged_file_counts_as_empty(home: Path, raw: str) -> None:
    path = home / ".walg_storage_ro_status_cache"
    path.write_bytes(raw.encode("latin-1"))
    cache = StatusCache("ro", 900, DEFAULTS)
    assert not cache.fresh("a#b")
    cache.check("a#b", True)
    cache.save()
    assert list(json.loads(path.read_text())) == ["a#b"]


def test_old_statuses_are_not_believed(home: Path) -> None:
    moment = [10**18]
    cache = StatusCache("ro", 900, DEFAULTS, now=lambda: moment[0])
    cache.check("a#b", True)
    assert cache.fresh("a#b")
    moment[0] += 901 * 10**9
    assert not cache.fresh("a#b")


@pytest.mark.parametrize("moment", [0, 1, 10**18 + 5, 1795489337575746231])
def test_times_round_trip(moment: int) -> None:
    assert parse_time(format_time(moment)) == moment


def test_operations_are_remembered(context: Context, home: Path) -> None:
    storage = context.write_storage()
    storage.put_bytes("a", b"x")
    with pytest.raises(ObjectNotFound):
        storage.stat("b")
    context.close()
    entry = next(iter(json.loads((home / ".walg_storage_rw_status_cache").read_text()).values()))
    assert 0 < entry["actual_aliveness"] == entry["potential_aliveness"]


def test_failures_are_remembered(context: Context, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    from walg_core.storage.local import LocalStorage

    storage = context.write_storage()

    def fail(self: LocalStorage, *_: Any) -> int:
        from walg_core.errors import PermanentError

        raise PermanentError("down")

    monkeypatch.setattr(LocalStorage, "put", fail)
    for _ in range(20):
        with pytest.raises(Exception, match="down"):
            storage.put_bytes("a", b"x")
    context.close()
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(home))
    found = json.loads((home / ".walg_storage_rw_status_cache").read_text())
    entry = next(entry for key, entry in found.items() if key.startswith("default#"))
    assert entry["actual_aliveness"] < entry["potential_aliveness"]


def test_transient_is_the_class_of_unsure_absence() -> None:
    assert issubclass(AbsenceUnsure, TransientError)
    assert not issubclass(AbsenceUnsure, ObjectNotFound)
