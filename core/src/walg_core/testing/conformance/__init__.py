"""The suite that every storage passes, ours or a stranger's.

With pytest, subclass it and give it a storage; `wal-g st conformance` runs it on the configured one:

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def storage(self):
            return MyStorage(...)
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from walg_core.storage.api import Storage
from walg_core.testing.conformance.frame import NotApplicable
from walg_core.testing.conformance.listing import ListingCases
from walg_core.testing.conformance.naming import NamingCases
from walg_core.testing.conformance.parallel import ParallelCases
from walg_core.testing.conformance.reading import ReadingCases
from walg_core.testing.conformance.writing import WritingCases


class StorageConformance(WritingCases, ReadingCases, ListingCases, NamingCases, ParallelCases):
    """All cases. Each works in a folder of its own and empties it, so a shared bucket will do.

    A subclass may change `many` (objects of the paging cases), `large` (bytes of the large objects), `clock_drift`
    (seconds) and `key_reserve` (bytes before every key) where the backend needs it.
    """


class Outcome(NamedTuple):
    """One case's result; `message` says what went wrong or why it does not apply."""

    name: str
    verdict: str
    message: str
    seconds: float


def cases(suite: type[StorageConformance] = StorageConformance) -> list[str]:
    """The names of the cases, without `test_`, in the order in which they run."""
    return [name[len("test_") :] for base in suite.__mro__ for name in vars(base) if name.startswith("test_")]


def run(
    storage: Storage, only: Callable[[str], bool] | None = None, suite: StorageConformance | None = None
) -> Iterator[Outcome]:
    """Run the cases one after the other without pytest; the verdicts are `passed`, `failed` and `skipped`."""
    suite = suite or StorageConformance()
    for name in cases(type(suite)):
        if only and not only(name):
            continue
        started = time.monotonic()
        verdict, message = "passed", ""
        try:
            getattr(suite, f"test_{name}")(storage)
        except NotApplicable as reason:
            verdict, message = "skipped", str(reason)
        except Exception as error:
            verdict = "failed"
            message = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        yield Outcome(name, verdict, message, time.monotonic() - started)


__all__ = ["NotApplicable", "Outcome", "StorageConformance", "cases", "run"]
