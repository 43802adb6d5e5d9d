"""Running a handful of independent tasks in threads: the first failure stops the rest and is raised."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

Task = Callable[[], None]


def run_all(tasks: Iterable[Task], limit: int, on_failure: Callable[[], None] | None = None) -> None:
    """Run all tasks, at most `limit` at once; raises the first failure, after every running task has ended.

    After a failure no further task starts and `on_failure` is called once, which may wake tasks that wait. An
    interruption of the calling thread does the same.
    """
    state = _State(iter(tasks), on_failure)
    threads = [threading.Thread(target=state.work, name=f"task-{number}", daemon=True) for number in range(limit)]
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            if state.exhausted:
                break
            thread.start()
            started.append(thread)
        for thread in started:
            thread.join()
    except BaseException as error:
        state.fail(error)
        for thread in started:
            thread.join()
    if state.error:
        raise state.error


class _State:
    def __init__(self, tasks: Iterator[Task], on_failure: Callable[[], None] | None) -> None:
        self.error: BaseException | None = None
        self.exhausted = False
        self._tasks = tasks
        self._lock = threading.Lock()
        self._on_failure = on_failure

    def _next(self) -> Task | None:
        with self._lock:
            task = None if self.error else next(self._tasks, None)
            self.exhausted = task is None
            return task

    def work(self) -> None:
        try:
            while task := self._next():
                task()
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        with self._lock:
            first, self.error = self.error is None, self.error or error
        if first and self._on_failure:
            self._on_failure()
