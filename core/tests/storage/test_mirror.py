"""Writing to several storages at once with a quorum."""

from pathlib import Path

import pytest
from walg_core.errors import AbsenceUnsure, ConfigError, ObjectExists, ObjectNotFound, StorageError, TransientError
from walg_core.pipeline.reader import BytesReader
from walg_core.storage.api import Storage
from walg_core.storage.layers.mirror import MirrorStorage
from walg_core.storage.memory import MemoryStorage
from walg_core.testing import FaultyStorage, StorageConformance
from walg_core.testing.conformance.frame import Body
from walg_core.testing.contexts import make_context


class TestMirrorConformance(StorageConformance):
    many = 300

    @pytest.fixture
    def storage(self) -> Storage:
        return MirrorStorage([MemoryStorage(name) for name in ("a", "b", "c")], 2)


class TestMirrorWithOneDown(StorageConformance):
    """Two of three suffice for everything but deletions, which must reach all."""

    many = 50

    @pytest.fixture
    def storage(self) -> Storage:
        down = FaultyStorage(MemoryStorage("down"))
        down.break_all()
        down.delete = lambda keys: None  # type: ignore[method-assign]
        return MirrorStorage([down, MemoryStorage("b"), MemoryStorage("c")], 2)


@pytest.fixture
def three() -> list[FaultyStorage]:
    return [FaultyStorage(MemoryStorage(name)) for name in ("a", "b", "c")]


def test_every_storage_gets_it(three: list[FaultyStorage]) -> None:
    mirror = MirrorStorage(three, 2)
    body = bytes(range(256)) * 50_000
    assert mirror.put("x", Body(body)) == len(body)
    assert all(storage.get("x") == body for storage in three)


def test_a_quorum_suffices(three: list[FaultyStorage]) -> None:
    mirror = MirrorStorage(three, 2)
    three[0].fail("put", after=2_000_000)
    mirror.put("x", BytesReader(b"z" * 5_000_000))
    assert [storage.inner.exists("x") for storage in three] == [False, True, True]
    assert mirror.stat("x").size == 5_000_000


def test_below_the_quorum_nothing_stays(three: list[FaultyStorage]) -> None:
    mirror = MirrorStorage(three, 2)
    three[0].fail("put")
    three[2].fail("put", after=100)
    with pytest.raises(TransientError, match="1 of 2 needed"):
        mirror.put("x", BytesReader(b"z" * 1000))
    assert not any(storage.inner.exists("x") for storage in three)


def test_below_the_quorum_an_older_object_is_not_taken_away(three: list[FaultyStorage]) -> None:
    mirror = MirrorStorage(three, 2)
    mirror.put_bytes("x", b"old")
    three[0].fail("put")
    three[2].fail("put")
    with pytest.raises(StorageError):
        mirror.put("x", BytesReader(b"new"))
    assert [storage.inner.get("x") for storage in three] == [b"old", b"new", b"old"]


def test_reads_fall_back(three: list[FaultyStorage]) -> None:
    mirror = MirrorStorage(three, 2)
    mirror.put_bytes("x", b"data")
    three[0].break_all()
    assert mirror.get("x") == b"data"
    assert [info.key for info in mirror.list()] == ["x"]
    with pytest.raises(ObjectNotFound):
        mirror.stat("missing")
    three[1].break_all()
    assert mirror.get("x") == b"data"
    with pytest.raises(AbsenceUnsure):
        mirror.stat("missing")
    with pytest.raises(StorageError):
        list(mirror.list())


def test_a_copy_that_one_storage_missed_is_seen(three: list[FaultyStorage]) -> None:
    mirror = MirrorStorage(three, 2)
    three[0].fail("put")
    mirror.put_bytes("x", b"data")
    assert mirror.exists("x")
    assert [info.key for info in mirror.list()] == ["x"]
    with pytest.raises(ObjectExists):
        mirror.put_bytes("x", b"other", if_absent=True)


def test_a_delete_must_reach_all(three: list[FaultyStorage]) -> None:
    mirror = MirrorStorage(three, 2)
    mirror.put_bytes("x", b"data")
    three[1].fail("delete")
    with pytest.raises(TransientError):
        mirror.delete(["x"])
    mirror.delete(["x"])
    assert not any(storage.inner.exists("x") for storage in three)


def test_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    values = {
        "WALG_FILE_PREFIX": str(tmp_path / "one"),
        "WALG_FAILOVER_STORAGES": {n: {"WALG_FILE_PREFIX": str(tmp_path / n)} for n in ("two", "three")},
        "WALG_MIRROR_STORAGES": "default, two,three",
    }
    context = make_context(values)
    context.write_storage().put_bytes("x", b"1")
    assert all((tmp_path / name / "x").read_bytes() == b"1" for name in ("one", "two", "three"))
    (tmp_path / "two" / "x").unlink()
    (tmp_path / "two").rmdir()
    degraded = make_context(values)
    degraded.write_storage().put_bytes("y", b"2")
    assert degraded.read_storage().get("x") == b"1"
    with pytest.raises(ConfigError, match="WALG_MIRROR_QUORUM is 4"):
        make_context({**values, "WALG_MIRROR_QUORUM": "4"}).write_storage()
    with pytest.raises(ConfigError, match="twice"):
        make_context({**values, "WALG_MIRROR_STORAGES": "two,two"}).write_storage()
    with pytest.raises(ConfigError, match="not found"):
        make_context({**values, "WALG_MIRROR_STORAGES": "default,nope"}).write_storage()
