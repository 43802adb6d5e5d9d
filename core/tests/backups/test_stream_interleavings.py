"""Stream backups, increments, deletions and marks at the same time over one archive (figure C1)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from walg_core.backups import deletion, marking, sentinels
from walg_core.backups.sentinels import SentinelForm
from walg_core.storage.api import Storage
from walg_core.streams import engine as streams
from walg_core.streams.push import Pushed, backup_of
from walg_core.testing.interleaving import Actor, Scheduler, SharedStorage, check_listed

SEEDS = int(os.environ.get("WALG_TEST_INTERLEAVINGS", "200"))
FORM = SentinelForm(parent="DeltaFrom", base="DeltaFullName")
ENGINE = streams.StreamEngine(form=FORM)


class Context:
    """As much of a command's context as the work on one storage needs."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.catalog = self
        self.hooks: dict[str, list[str]] = {}
        self.engine = "fake"

    def write_storage(self, _: str = "") -> Storage:
        return self._storage

    def read_storages(self) -> list[Storage]:
        return [self._storage]


class World:
    """An archive with two fulls and their increments, and what must hold at every moment."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts: dict[str, set[str]] = {}
        self.permanent: set[str] = set()
        self.count = 0
        self.storage = SharedStorage()
        self.context: Any = Context(self.storage)
        self.scheduler = Scheduler(seed, self.check)
        monkeypatch.setattr("walg_core.streams.push.new_name", self.new_name)
        for increment in (False, True, False, True):
            self.push(increment)
        self.storage.scheduler = self.scheduler

    def new_name(self, _storage: Storage, prefix: str) -> str:
        self.count += 1
        return f"{prefix}20240101T0000{self.count:02d}Z"

    def names(self) -> list[str]:
        return [each.name for each in sentinels.load_all(self.storage, FORM)]

    # What the programs do.

    def push(self, increment: bool) -> None:
        found = sentinels.load_all(self.storage, FORM)
        parent = max(found, key=lambda each: each.name) if increment and found else None

        def body(storage: Storage, prefix: str) -> tuple[int, int]:
            keys = {f"{prefix}{part}.lz4" for part in ("a", "b")}
            for key in sorted(keys):
                storage.put_bytes(key, b"x")
            self.parts[prefix.split("/")[1]] = keys
            return 2, 2

        def sentinel(pushed: Pushed) -> dict[str, Any]:
            values: dict[str, Any] = streams.plain_sentinel(pushed, streams.Marks())
            if parent:
                values |= {"DeltaFrom": parent.name, "DeltaFullName": parent.base or parent.name}
            return values

        backup_of(self.context, body, sentinel, base=parent.name if parent else "")

    def mark(self) -> None:
        found = self.names()
        name = self.scheduler.random.choice(found) if found else "stream_none"
        marking.mark(self.storage, name, FORM, permanent=True)
        self.permanent.add(name)

    def delete(self) -> None:
        chance = self.scheduler.random
        found = self.names()
        name = chance.choice(found) if found else "stream_none"

        def load() -> list[deletion.Candidate]:
            return streams.candidates(self.storage, ENGINE)

        chance.choice(
            [
                lambda: self.retain(chance.choice(["FULL", "FIND_FULL"])),
                lambda: streams.delete_target(self.context, ENGINE, [name], "", confirm=True),
                lambda: streams.delete_target(self.context, ENGINE, ["FIND_FULL", name], "", confirm=True),
                lambda: streams.delete_garbage(self.context, ENGINE, confirm=True),
                lambda: streams.delete_everything(self.context, ENGINE, force=False, confirm=True),
            ]
        )()

    def retain(self, modifier: str) -> None:
        streams.delete_older(
            self.context, ENGINE, lambda backups: deletion.target_retain(backups, modifier, 1), confirm=True
        )

    # What must hold.

    def check(self) -> None:
        check_listed(self.storage.peek(), self.parts, self.permanent)


def actors(world: World) -> list[Actor]:
    chance = world.scheduler.random
    works: list[tuple[str, Callable[[], None]]] = [
        ("increment", lambda: world.push(True)),
        ("delete", world.delete),
        ("mark", world.mark),
        ("delete 2", world.delete),
        chance.choice([("full", lambda: world.push(False)), ("mark 2", world.mark)]),
    ]
    return [Actor(name, work) for name, work in works]


@pytest.mark.parametrize("first", range(10))
def test_programs_at_the_same_time(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Seeds are dealt out to ten tests; the seed and the last steps are in the failure's message."""
    done = 0
    for seed in range(first, SEEDS, 10):
        world = World(seed, monkeypatch)
        running = actors(world)
        try:
            world.scheduler.run(running)
        except AssertionError as error:
            steps = "\n".join(world.scheduler.trace[-80:])
            raise AssertionError(f"seed {seed}: {error}\n{steps}") from error
        done += sum(actor.outcome == "done" for actor in running)
        assert not [key for key in world.storage.peek() if "walg_claim" in key], "a claim was left behind"
    assert done > 2 * (SEEDS // 10), "nearly everything is refused: the test tests nothing"
