"""delete, retain, copy and mark killed before any of their storage operations; repeated they finish (figure D6)."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from walg_core.backups import claims, copying
from walg_core.pipeline.reader import Reader
from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.layers.base import Layer
from walg_core.storage.local import LocalStorage
from walg_core.storage.memory import MemoryStorage
from walg_pg.catalog.backups import list_backups
from walg_pg.catalog.copy import claimed_by, plan
from walg_pg.catalog.delete import Deleter
from walg_pg.catalog.mark import mark
from walg_pg.lsn import segment_name
from walg_pg.sentinel import Sentinel, metadata_of, write_metadata, write_sentinel

SEGMENT = 16 << 20
POINTS = int(os.environ.get("WALG_TEST_KILLS", "60"))
NEVER = 1 << 30


class Killed(BaseException):
    """Stands for the process's death: from then on no operation happens any more."""


class Mortal(Layer):
    """The process dies before the operation that `left` counts down to. Deleting counts key by key.

    Two storages of one process share the one number in `left`.
    """

    def __init__(self, inner: MemoryStorage, left: list[int]) -> None:
        super().__init__(inner)
        self._left = left

    def _live(self) -> None:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise Killed

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        self._live()
        return self.inner.list(prefix, start_after)

    def list_dir(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._live()
        return self.inner.list_dir(prefix)

    def list_versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.list(prefix)

    def stat(self, key: str) -> ObjectInfo:
        self._live()
        return self.inner.stat(key)

    def exists(self, key: str) -> bool:
        self._live()
        return self.inner.exists(key)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        self._live()
        return self.inner.open(key, offset, length)

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        self._live()
        return self.inner.put(key, body, size, if_absent)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._live()
            self.inner.delete([key])

    def delete_versions(self, objects: Iterable[ObjectInfo]) -> None:
        self.delete(info.key for info in objects)


Made = TypeVar("Made", bound=Storage)


def make(storage: Made) -> Made:
    """Two chains of one full backup and seven deltas each, with their WAL."""
    for first in (2, 22):
        base = None
        for number in range(first, first + 16, 2):
            name = "base_" + segment_name(1, number, SEGMENT) + (f"_D_{base[5:29]}" if base else "")
            start = number * SEGMENT + 40
            sentinel = Sentinel(start_lsn=start, finish_lsn=start + 100, pg_version=180000)
            if base:
                full = f"base_{segment_name(1, first, SEGMENT)}"
                sentinel = Sentinel(
                    start_lsn=start,
                    finish_lsn=start + 100,
                    pg_version=180000,
                    delta_lsn=start,
                    delta_from=base,
                    delta_full_name=full,
                    delta_count=1,
                )
            prefix = f"basebackups_005/{name}/"
            for part in ("part_001", "part_002", "pg_control"):
                storage.put_bytes(f"{prefix}tar_partitions/{part}.tar.lz4", b"x")
            for segment in (number, number + 1):
                storage.put_bytes(f"wal_005/{segment_name(1, segment, SEGMENT)}.lz4", b"x")
            storage.put_bytes(prefix + "metadata.json", write_metadata(metadata_of(sentinel)))
            storage.put_bytes(f"basebackups_005/{name}_backup_stop_sentinel.json", write_sentinel(sentinel))
            base = name
    return storage


def keys(storage: Storage) -> set[str]:
    return {info.key for info in storage.list() if "walg_claim" not in info.key}


def whole(storage: Storage, complete: set[str]) -> set[str]:
    """The listed backups, each with its parts, WAL and base, and a permanent one on a permanent base."""
    there = keys(storage)
    listed = {backup.name: backup for backup in list_backups([storage])}
    for name, backup in listed.items():
        needed = {key for key in complete if key.startswith(f"basebackups_005/{name}/") or f"/{name[5:29]}." in key}
        assert needed <= there, f"{name} is listed without {sorted(needed - there)}"
        base = backup.sentinel().delta_from
        assert base is None or base in listed, f"{name} has lost its base"
        if base and backup.metadata().is_permanent:
            assert listed[base].metadata().is_permanent, f"{name} is permanent on a base that is not"
    return set(listed)


Command = Callable[[Mortal, Mortal], None]
"""With the archive and an empty storage."""


def delete(archive: Mortal, _: Mortal) -> None:
    first = list_backups([archive])[0].name
    Deleter([archive], SEGMENT, confirm=True).target("", first)


def retain(archive: Mortal, _: Mortal) -> None:
    Deleter([archive], SEGMENT, confirm=True).retain("FULL", 1)


def copy(archive: Mortal, target: Mortal) -> None:
    entries = plan(archive, "", SEGMENT, history=False)
    copying.execute(archive, target, entries, claimed_by(archive, entries))


def permanent(archive: Mortal, _: Mortal) -> None:
    mark([archive], list_backups([archive])[-1].name, permanent=True, segment_size=SEGMENT)


def run(command: Command, archive: MemoryStorage, target: MemoryStorage, left: int = NEVER) -> int:
    """The number of operations that it took. Raises Killed before operation `left`."""
    counter = [left]
    command(Mortal(archive, counter), Mortal(target, counter))
    return left - counter[0]


@pytest.mark.parametrize("command", [delete, retain, copy, permanent])
def test_killed_anywhere_and_repeated(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.setattr(copying, "_PARALLEL", 1)
    # What is killed leaves claims of a process that is gone.
    monkeypatch.setattr(claims, "_start", lambda _: str(next(starts)))
    starts = itertools.count()
    archive, target = make(MemoryStorage()), MemoryStorage()
    complete = keys(archive)
    total = run(command, archive, target)
    expected, copied = whole(archive, complete), keys(target)
    assert total >= 60, "too few operations for as many kill points"
    for point in sorted({total * number // POINTS for number in range(POINTS)}):
        archive, target = make(MemoryStorage()), MemoryStorage()
        with pytest.raises(Killed):
            run(command, archive, target, point)
        whole(target, complete)
        if whole(archive, complete) != expected or command is not delete:
            # Of a `delete target` without any sentinel left to delete the rest is garbage, which `retain` takes along.
            run(command, archive, target)
        assert (whole(archive, complete), keys(target)) == (expected, copied), f"killed before operation {point}"


@pytest.mark.slow
@pytest.mark.parametrize("gone", [0, 1, 5, 9, 20, 40])
def test_the_command_is_killed(tmp_path: Path, gone: int) -> None:
    """`kill -9` as soon as so many files are gone; the claim that is left is known to be a dead process's."""
    storage = make(LocalStorage(str(tmp_path)))
    complete = keys(storage)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WALG_", "PG"))}
    argv = [sys.executable, "-m", "walg_core", "pg", "delete", "retain", "FULL", "1", "--confirm"]
    process = subprocess.Popen(argv, env={**environment, "WALG_FILE_PREFIX": str(tmp_path)}, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not claims.live(storage) or len(complete) - len(keys(storage)) < gone):
        time.sleep(0.001)
    process.kill()
    process.wait()
    whole(storage, complete)
    assert claims.live(storage) == []
    Deleter([storage], SEGMENT, confirm=True).retain("FULL", 1)
    assert len(whole(storage, complete)) == 8
    assert len(keys(storage)) == len(complete) // 2
    assert not list(tmp_path.rglob("*walg_claim*"))
