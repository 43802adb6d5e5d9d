"""A few threads for work that releases the interpreter lock, and an ordered look-ahead over them.

Not `concurrent.futures`: that imports `logging`, 10 ms in every cold `wal-push`.
"""

import _thread
import os
from _queue import SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


class _Job:
    __slots__ = ("argument", "done", "error", "function", "result")

    def __init__(self, function: "Callable[[Any], Any]", argument: "Any") -> None:
        self.function = function
        self.argument = argument
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = _thread.allocate_lock()
        self.done.acquire()

    def wait(self) -> "Any":
        with self.done:
            if self.error is not None:
                raise self.error
            return self.result


_jobs: "SimpleQueue[_Job]" = SimpleQueue()
_started = 0
_owner = 0
_starting = _thread.allocate_lock()


def count() -> int:
    """How many workers there are: the processors this process may use, at most 8."""
    limit = os.environ.get("GOMAXPROCS", "")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, int(limit) if limit.isdigit() and int(limit) > 0 else available))


def _work(jobs: "SimpleQueue[_Job]") -> None:
    while True:
        job = jobs.get()
        try:
            job.result = job.function(job.argument)
        except BaseException as error:
            job.error = error
        job.argument = None
        job.done.release()


def _ensure_started() -> None:
    global _jobs, _owner, _started
    with _starting:
        if _owner != os.getpid():
            # After a fork the threads are gone; their queue may hold jobs that nobody waits for.
            _jobs, _started, _owner = SimpleQueue(), 0, os.getpid()
        while _started < count():
            _thread.start_new_thread(_work, (_jobs,))
            _started += 1


def ordered(function: "Callable[[Any], Any]", arguments: "Iterable[Any]", ahead: int = 0) -> "Iterator[Any]":
    """`function` of each argument, in order, computed by the workers at most `ahead` (default: workers + 1) in advance.

    A single argument is computed here and starts no thread. What `function` raises is raised in its place.
    """
    iterator = iter(arguments)
    first = next(iterator, _NOTHING)
    if first is _NOTHING:
        return
    second = next(iterator, _NOTHING)
    if second is _NOTHING or count() == 1:
        yield function(first)
        if second is not _NOTHING:
            yield function(second)
            yield from map(function, iterator)
        return
    _ensure_started()
    waiting: list[_Job] = []
    for argument in (first, second):
        waiting.append(_submit(function, argument))
    del first, second
    limit = max(2, ahead or count() + 1)
    for argument in iterator:
        if len(waiting) >= limit:
            yield waiting.pop(0).wait()
        waiting.append(_submit(function, argument))
    while waiting:
        yield waiting.pop(0).wait()


_NOTHING = object()


def _submit(function: "Callable[[Any], Any]", argument: "Any") -> _Job:
    job = _Job(function, argument)
    _jobs.put(job)
    return job
