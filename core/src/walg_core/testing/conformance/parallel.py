"""Cases about many threads at once."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from walg_core.errors import ObjectExists
from walg_core.storage.api import Storage
from walg_core.testing.conformance.frame import Body, BodyFailed, NotApplicable, case, content, data, keys, same, true

Item = TypeVar("Item")


def each_in_threads(function: Callable[[Item], object], items: Iterable[Item], threads: int = 8) -> None:
    """Call it for every item; the first exception is raised."""
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(function, item) for item in items]:
            future.result()


class ParallelCases:
    @case
    def test_parallel_objects(self, storage: Storage) -> None:
        bodies = {f"folder-{number % 3}/object-{number}": data(50_000 + number) for number in range(24)}
        each_in_threads(lambda key: storage.put_bytes(key, bodies[key]), bodies)
        same(keys(storage), sorted(bodies), "listing")
        each_in_threads(lambda key: same(content(storage, key), bodies[key], key), bodies)

    @case
    def test_parallel_overwrites_leave_one_whole(self, storage: Storage) -> None:
        bodies = [bytes([number]) * (100_000 + number) for number in range(8)]
        each_in_threads(lambda body: storage.put("object", Body(body, piece=10_000)), bodies)
        true(content(storage, "object") in bodies, "parallel overwrites mixed their bodies")
        same(keys(storage), ["object"], "listing after parallel overwrites")

    @case
    def test_parallel_deletes(self, storage: Storage) -> None:
        names = [f"f/{number}" for number in range(20)]
        each_in_threads(lambda name: storage.put_bytes(name, b"x"), names)
        each_in_threads(lambda _: storage.delete(names), range(4), threads=4)
        same(keys(storage), [], "listing after parallel deletes of the same objects")

    @case
    def test_put_while_the_folder_is_emptied(self, storage: Storage) -> None:
        def work(number: int) -> None:
            for step in range(10):
                key = f"folder/sub/object-{number}"
                storage.put_bytes(key, bytes([step]))
                same(content(storage, key), bytes([step]), key)
                storage.delete([key])

        each_in_threads(work, range(6), threads=6)
        same(keys(storage), [], "listing at the end")

    @case
    def test_if_absent_race_has_one_winner(self, storage: Storage) -> None:
        if not storage.capabilities.put_if_absent:
            raise NotApplicable("no atomic put-if-absent")
        barrier = threading.Barrier(8)
        winners: list[int] = []

        def race(number: int) -> None:
            barrier.wait()
            try:
                storage.put_bytes("object", bytes([number]) * 1000, if_absent=True)
            except ObjectExists:
                return
            winners.append(number)

        each_in_threads(race, range(8))
        same(len(winners), 1, "puts that believe to have been first")
        same(content(storage, "object"), bytes(winners) * 1000, "content: the winner's")

    @case
    def test_failing_put_beside_a_good_one(self, storage: Storage) -> None:
        def bad(_: int) -> None:
            def fail(position: int) -> None:
                if position > 20_000:
                    raise BodyFailed("fails")

            try:
                storage.put("object", Body(data(100_000), piece=10_000, before=fail))
            except BodyFailed:
                return
            raise AssertionError("the failing body was stored")

        def good(_: int) -> None:
            storage.put("object", Body(b"good" * 10_000, piece=5_000))

        each_in_threads(lambda number: (bad if number % 2 else good)(number), range(8))
        same(content(storage, "object"), b"good" * 10_000, "content after good and failing puts of one object")
