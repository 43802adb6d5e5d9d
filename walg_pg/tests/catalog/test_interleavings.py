"""Backups, deletions, copies, marks and WAL at the same time over one archive (figure C1)."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from walg_core.backups import copying, times
from walg_core.backups.copying import execute
from walg_core.storage.api import Storage
from walg_core.testing.interleaving import Actor, Scheduler, SharedStorage, check_listed
from walg_pg.backup import finish
from walg_pg.backup.base import Base
from walg_pg.catalog.backups import list_backups
from walg_pg.catalog.copy import claimed_by, plan
from walg_pg.catalog.delete import Deleter
from walg_pg.catalog.mark import mark
from walg_pg.catalog.targets import Policy
from walg_pg.lsn import segment_name
from walg_pg.sentinel import Sentinel

SEGMENT = 16 << 20
SEEDS = int(os.environ.get("WALG_TEST_INTERLEAVINGS", "100"))


class World:
    """An archive with two fulls and their deltas, another one to copy from, and what must hold at every moment."""

    def __init__(self, seed: int) -> None:
        self.parts: dict[str, set[str]] = {}
        self.permanent: set[str] = set()
        self.segment = 0x20
        self.storage, self.other = SharedStorage(), SharedStorage()
        self.scheduler = Scheduler(seed, self.check)
        for base in (False, True, False, True):
            self.push(self.storage, base)
        self.segment, after = 4, self.segment
        for base in (False, True, True):
            self.push(self.other, base)
        self.segment = after
        self.storage.scheduler = self.other.scheduler = self.scheduler

    # What the programs do.

    def push(self, storage: Storage, delta: bool) -> None:
        """The storage's half of backup-push, with the modules that it uses; WAL is archived before the backup ends."""
        base = None
        found = list_backups([storage])
        if delta and found:
            sentinel = found[-1].sentinel()
            base = Base(found[-1], sentinel, {}, 1, sentinel.delta_full_name or found[-1].name)
        own, self.segment = self.segment, self.segment + 2
        start = own * SEGMENT + 40
        segment = segment_name(1, own, SEGMENT)
        name = f"base_{segment}" + (f"_D_{base.name[5:29]}" if base else "")
        prefix = f"basebackups_005/{name}/tar_partitions/"
        stored = {f"{prefix}{part}.tar.lz4": 1 for part in ("part_001", "part_002", "pg_control")}
        wal = {f"wal_005/{segment_name(1, number, SEGMENT)}.lz4" for number in (own, own + 1)}
        with finish.claim(storage, name, base, start):
            finish.prepare_place(storage, name)
            for key in (*stored, *sorted(wal)):
                storage.put_bytes(key, b"x")
            self.parts[name] = {*stored, *wal}
            finish.check_parts(storage, name, stored)
            finish.check_base(storage, base)
            finish.publish(storage, name, sentinel_of(base, start), None)

    def wal_push(self) -> None:
        for _ in range(6):
            number, self.segment = self.segment, self.segment + 1
            self.storage.put_bytes(f"wal_005/{segment_name(1, number, SEGMENT)}.lz4", b"x")

    def copy(self) -> None:
        entries = plan(self.other, "", SEGMENT, history=False)
        execute(self.other, self.storage, entries, claimed_by(self.other, entries))

    def mark(self) -> None:
        found = list_backups([self.storage])
        name = self.scheduler.random.choice(found).name if found else "LATEST"
        mark([self.storage], name, permanent=True, segment_size=SEGMENT)
        self.permanent.add(name)

    def delete(self) -> None:
        chance = self.scheduler.random
        deleter = Deleter([self.storage], SEGMENT, confirm=True)
        found = list_backups([self.storage])
        name = chance.choice(found).name if found else "base_none"
        chance.choice(
            [
                lambda: deleter.retain(chance.choice(["FULL", "FIND_FULL"]), chance.randint(1, 2)),
                lambda: deleter.policy(Policy(last=1, daily=1)),
                lambda: deleter.target(chance.choice(["", "FIND_FULL"]), name),
                lambda: deleter.before("FIND_FULL", name),
                lambda: deleter.garbage("", without_backup_check=True),
            ]
        )()

    # What must hold.

    def check(self) -> None:
        check_listed(self.storage.peek(), self.parts, self.permanent)


def sentinel_of(base: Base | None, start: int) -> Sentinel:
    return Sentinel(
        start_lsn=start,
        finish_lsn=start + SEGMENT,
        delta_lsn=base.lsn if base else None,
        delta_from=base.name if base else None,
        delta_full_name=base.full_name if base else None,
        delta_count=base.count if base else None,
        start_time=times.format_utc(times.now(), 6),
        finish_time=times.format_utc(times.now(), 6),
        pg_version=180000,
    )


def actors(world: World) -> list[Actor]:
    chance = world.scheduler.random
    works: list[tuple[str, Callable[[], None]]] = [
        ("backup", lambda: world.push(world.storage, True)),
        ("delete", world.delete),
        ("mark", world.mark),
        ("copy", world.copy),
        ("wal-push", world.wal_push),
        ("delete 2", world.delete),
        chance.choice([("backup 2", lambda: world.push(world.storage, False)), ("mark 2", world.mark)]),
    ]
    return [Actor(name, work) for name, work in works]


@pytest.mark.parametrize("first", range(10))
def test_programs_at_the_same_time(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Seeds are dealt out to ten tests; the seed and the last steps are in the failure's message."""
    monkeypatch.setattr(copying, "_PARALLEL", 1)
    done = 0
    for seed in range(first, SEEDS, 10):
        world = World(seed)
        running = actors(world)
        try:
            world.scheduler.run(running)
        except AssertionError as error:
            steps = "\n".join(world.scheduler.trace[-80:])
            raise AssertionError(f"seed {seed}: {error}\n{steps}") from error
        done += sum(actor.outcome == "done" for actor in running)
        assert not [key for key in world.storage.peek() if "walg_claim" in key], "a claim was left behind"
    assert done > 2 * (SEEDS // 10), "nearly everything is refused: the test tests nothing"
