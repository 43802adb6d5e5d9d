"""A deterministic scheduler: several programs over one storage, one storage operation at a time (figure C1).

Every operation waits for its turn; whose turn it is comes from a seeded generator, and nothing else does: the same seed
gives the same interleaving. What an actor does between two operations belongs to the first of them.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from walg_core.errors import WalgError
from walg_core.pipeline.reader import Reader
from walg_core.storage.api import ObjectInfo
from walg_core.storage.memory import MemoryStorage


class Actor:
    """One program. `outcome` is "done", or why it was refused."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name = name
        self.work = work
        self.turn = threading.Semaphore(0)
        self.outcome = ""
        self.failure: BaseException | None = None

    def run(self, scheduler: Scheduler) -> None:
        self.turn.acquire()
        try:
            self.work()
            self.outcome = "done"
        except WalgError as error:
            self.outcome = f"{type(error).__name__}: {error}"
        except BaseException as error:
            self.failure = error
        scheduler.ended(self)


class Scheduler:
    """Runs actors to their ends; `check` is called between any two operations."""

    def __init__(self, seed: int, check: Callable[[], None]) -> None:
        self.random = random.Random(seed)
        self.trace: list[str] = []
        self._check = check
        self._current: Actor | None = None
        self._back = threading.Semaphore(0)
        self._alive: list[Actor] = []

    def run(self, actors: list[Actor]) -> None:
        """Raises what `check` raises, and what an actor raises that is no WalgError."""
        self._alive = list(actors)
        threads = [threading.Thread(target=actor.run, args=(self,), daemon=True) for actor in actors]
        for thread in threads:
            thread.start()
        while self._alive:
            self._current = self.random.choice(self._alive)
            self._current.turn.release()
            assert self._back.acquire(timeout=120), f"{self._current.name} does not come back"
            self._check()
        self._current = None
        for actor in actors:
            if actor.failure:
                raise actor.failure

    def step(self, what: str) -> None:
        """Called before every operation, by whatever thread of the actor whose turn it is."""
        actor = self._current
        if actor is None:
            return
        self._back.release()
        actor.turn.acquire()
        self.trace.append(f"{actor.name}: {what}")

    def ended(self, actor: Actor) -> None:
        self._alive.remove(actor)
        self._back.release()


def check_listed(objects: Mapping[str, bytes], parts: Mapping[str, set[str]], permanent: set[str]) -> None:
    """Raise AssertionError unless every listed backup has its `parts` and its base, and `permanent` ones are listed."""
    suffix = "_backup_stop_sentinel.json"
    listed = {key.split("/")[1].removesuffix(suffix): body for key, body in objects.items() if key.endswith(suffix)}
    for name, body in listed.items():
        lost = parts[name] - objects.keys()
        assert not lost, f"{name} is listed without {sorted(lost)}"
        base = json.loads(body).get("DeltaFrom")
        assert base in (None, *listed), f"{name} is listed without its base {base}"
    assert permanent <= listed.keys(), "a permanent backup is gone"


class SharedStorage(MemoryStorage):
    """A storage in memory whose operations are steps; its clock goes on by 10 ms with each change."""

    def __init__(self) -> None:
        self._now = time.time() - 600
        super().__init__(clock=self._tick)
        self.scheduler: Scheduler | None = None

    def _tick(self) -> float:
        self._now += 0.01
        return self._now

    def _step(self, what: str) -> None:
        if self.scheduler:
            self.scheduler.step(what)

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[ObjectInfo]:
        self._step(f"list {prefix}")
        return super().list(prefix, start_after)

    def stat(self, key: str) -> ObjectInfo:
        self._step(f"stat {key}")
        return super().stat(key)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> Reader:
        self._step(f"open {key}")
        return super().open(key, offset, length)

    def put(self, key: str, body: Reader, size: int | None = None, if_absent: bool = False) -> int:
        self._step(f"put {key}")
        return super().put(key, body, size, if_absent)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._step(f"delete {key}")
            super().delete([key])

    def peek(self) -> dict[str, bytes]:
        """Everything, without taking a turn."""
        return {key: data for key, (data, _) in list(self._objects.items())}
