"""delete, backup-mark, copy as commands over golden archives; kills between any two changes (figure D6)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from walg_core.errors import WalgError
from walg_core.storage.api import ObjectInfo
from walg_core.storage.layers.base import Layer
from walg_core.storage.local import LocalStorage
from walg_pg.catalog.backups import list_backups
from walg_pg.catalog.copy import plan
from walg_pg.catalog.delete import Deleter
from walg_pg.catalog.mark import mark
from walg_pg.restore.chain import choose_files, load_chain

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "pg18-zstd"
FULL = "base_000000010000000000000003"
SECOND = "base_000000010000000000000006_D_000000010000000000000003"
LAST = "base_000000010000000000000008_D_000000010000000000000006"
SEGMENT = 16 << 20


class Killed(BaseException):
    """Stands for the process's death."""


class Mortal(Layer):
    """Dies before the `left`-th change."""

    left = 1 << 30

    def _live(self) -> None:
        if self.left <= 0:
            raise Killed
        self.left -= 1

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._live()
            self.inner.delete([key])

    def delete_versions(self, objects: Iterable[ObjectInfo]) -> None:
        self.delete(info.key for info in objects)

    def put(self, key: str, body: object, size: int | None = None, if_absent: bool = False) -> int:
        self._live()
        return self.inner.put(key, body, size, if_absent)  # type: ignore[arg-type]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    if not GOLDEN.is_dir():
        pytest.skip(f"no golden archives at {GOLDEN}")
    target = tmp_path / "archive"
    shutil.copytree(GOLDEN / "storage", target)
    for key, stamp in json.loads((GOLDEN / "mtimes.json").read_text()).items():
        os.utime(target / key, ns=(stamp, stamp))
    return target


def storage_of(archive: Path) -> Mortal:
    return Mortal(LocalStorage(str(archive)))


def whole(storage: Mortal) -> list[str]:
    """The names of the listed backups, each of which must be complete."""
    names = []
    for backup in list_backups([storage]):
        choose_files(load_chain([storage], backup))
        names.append(backup.name)
    return names


def unmark(storage: Mortal) -> None:
    for name in (LAST, SECOND, FULL):
        mark([storage], name, permanent=False, segment_size=SEGMENT)


@pytest.mark.parametrize("number", range(18))
def test_a_killed_deletion_leaves_only_whole_backups(archive: Path, number: int) -> None:
    storage = storage_of(archive)
    unmark(storage)
    storage.left = number
    with pytest.raises(Killed):
        Deleter([storage], SEGMENT, confirm=True).target("FIND_FULL", LAST)
    listed = whole(storage)
    storage.left = 1 << 30
    while listed:
        Deleter([storage], SEGMENT, confirm=True).target("FIND_FULL", listed[-1])
        listed = whole(storage)
    assert listed == []


@pytest.mark.parametrize("number", range(4))
def test_a_killed_mark_never_leaves_a_permanent_delta_on_a_mortal_base(archive: Path, number: int) -> None:
    storage = storage_of(archive)
    unmark(storage)
    storage.left = number
    try:
        mark([storage], "LATEST", permanent=True, segment_size=SEGMENT)
    except Killed:
        storage.left = 1 << 30
    flags = [backup.metadata().is_permanent for backup in list_backups([storage])]
    assert flags == sorted(flags, reverse=True), "a delta is permanent and its base is not"
    mark([storage], "LATEST", permanent=True, segment_size=SEGMENT)
    assert all(backup.metadata().is_permanent for backup in list_backups([storage]))


def test_marking_keeps_the_order_of_backups(archive: Path) -> None:
    storage = storage_of(archive)
    before = list_backups([storage])
    unmark(storage)
    assert list_backups([storage]) == before


def test_a_needed_mark_stays(archive: Path) -> None:
    with pytest.raises(WalgError, match=LAST):
        mark([storage_of(archive)], FULL, permanent=False, segment_size=SEGMENT)


@pytest.mark.parametrize("modifier", ["", "FIND_FULL"])
def test_permanent_backups_are_protected_from_delete_target(archive: Path, modifier: str) -> None:
    storage = storage_of(archive)
    before = sorted(info.key for info in storage.list())
    with pytest.raises(WalgError, match="permanent"):
        Deleter([storage], SEGMENT, confirm=True).target(modifier, LAST)
    assert sorted(info.key for info in storage.list()) == before
    assert Deleter([storage], SEGMENT, confirm=True).target(modifier, LAST, force=True)


def test_unreadable_permanence_stops_every_deletion(archive: Path) -> None:
    (archive / "basebackups_005" / SECOND / "metadata.json").write_text("{broken")
    with pytest.raises(WalgError):
        Deleter([storage_of(archive)], SEGMENT, confirm=True).retain("FULL", 1)


@pytest.mark.parametrize("number", range(0, 24, 2))
def test_a_killed_copy_is_repeated(archive: Path, tmp_path: Path, number: int) -> None:
    from walg_core.backups.copying import execute

    source = storage_of(archive)
    (tmp_path / "copy").mkdir()
    target = storage_of(tmp_path / "copy")
    target.left = number
    with pytest.raises(Killed):
        execute(source, target, plan(source, "", SEGMENT, history=False))
    whole(target)
    target.left = 1 << 30
    execute(source, target, plan(source, "", SEGMENT, history=False))
    assert sorted(whole(target)) == [FULL, SECOND, LAST]


@pytest.mark.parametrize("lost", ["000000010000000000000003.zst", "000000010000000000000008.zst"])
def test_a_copy_without_its_wal_is_refused(archive: Path, lost: str) -> None:
    (archive / "wal_005" / lost).unlink()
    with pytest.raises(WalgError, match="missing"):
        plan(storage_of(archive), "", SEGMENT, history=False)


def test_garbage_goes_by_names_also_with_sentinel_times(archive: Path) -> None:
    """A leftover has no sentinel, and so no time; the original takes it by its name."""
    leftover = archive / "basebackups_005" / "base_000000010000000000000001" / "tar_partitions"
    leftover.mkdir(parents=True)
    (leftover / "part_001.tar.zst").write_bytes(b"x")
    storage = storage_of(archive)
    unmark(storage)
    Deleter([storage], SEGMENT, confirm=True, by_time=True).garbage("BACKUPS")
    assert not leftover.exists()
    assert sorted(whole(storage)) == [FULL, SECOND, LAST]
