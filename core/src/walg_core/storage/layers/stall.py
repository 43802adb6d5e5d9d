"""Stall detection: an operation in which nothing moves for N seconds fails, whatever the driver is waiting for.

A blocked call cannot be ended from outside, so every call runs in a helper thread that is abandoned when it stalls.
The helpers are daemons: an abandoned one never keeps the process from ending.
"""

import queue
import threading
import time
from functools import partial
from itertools import islice

from walg_core.errors import TransientError
from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.layers.base import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, TypeVar

    from walg_core.pipeline.reader import Reader

    Result = TypeVar("Result")

_END = object()
_BATCH = 1000
"""Keys deleted in one watched call: the most that any backend takes in one request."""


class _Task:
    """One call in a helper. `touch` says that something moved; `pause`d time (in the body) does not count."""

    def __init__(self, function: "Callable[[], Any]") -> None:
        self.function = function
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self.moved = time.monotonic()
        self.paused = False

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        self.done.set()

    def wait(self, limit: float, what: str) -> "Any":
        """The call's result or exception; TransientError when nothing moved for `limit` seconds."""
        while not self.done.wait(max(0.01, min(limit, self.moved + limit - time.monotonic()))):
            if not self.paused and time.monotonic() - self.moved >= limit:
                raise TransientError(
                    f"{what}: nothing moved for {limit:g} s",
                    hint="is the network or the storage down? WALG_STORAGE_STALL_TIMEOUT sets how long to wait",
                )
            if self.paused:
                self.moved = time.monotonic()
        if self.error:
            raise self.error
        return self.result


class _Helpers:
    """Daemon threads that are reused while they come back."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[_Task]] = []
        self._lock = threading.Lock()

    def start(self, task: _Task) -> _Task:
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), daemon=True, name="storage-call").start()
        inbox.put(task)
        return task

    def _serve(self, inbox: "queue.SimpleQueue[_Task]") -> None:
        while True:
            inbox.get().run()
            with self._lock:
                self._idle.append(inbox)


class StallStorage(Layer):
    """Every operation fails with TransientError when nothing moves for `limit` seconds.

    A put is given `put_limit`: drivers read parts ahead and then send them for a while without asking for more. One
    that knows how its bytes leave calls `body.moved()`, if the body has it. Copies within the storage are not
    watched: their length depends on the object, and nothing is seen of them.
    """

    def __init__(self, inner: Storage, limit: float, put_limit: float | None = None) -> None:
        super().__init__(inner)
        self._limit = limit
        self._put_limit = put_limit or limit
        self._helpers = _Helpers()

    def _call(self, what: str, function: "Callable[[], Result]") -> "Result":
        result: Result = self._helpers.start(_Task(function)).wait(self._limit, what)
        return result

    def _iterate(self, what: str, make: "Callable[[], Iterator[ObjectInfo]]") -> "Iterator[ObjectInfo]":
        infos = self._call(what, make)
        while (batch := self._call(what, lambda: _some(infos))) is not _END:
            yield from batch

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        return self._iterate(f"list '{prefix}'", lambda: self.inner.list(prefix, start_after))

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self._iterate(f"list '{prefix}'", lambda: self.inner.list_dir(prefix))

    def list_versions(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self._iterate(f"list versions of '{prefix}'", lambda: self.inner.list_versions(prefix))

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return self._call(f"list folders of '{prefix}'", lambda: self.inner.list_dirs(prefix))

    def stat(self, key: str) -> ObjectInfo:
        return self._call(f"stat '{key}'", lambda: self.inner.stat(key))

    def exists(self, key: str) -> bool:
        return self._call(f"stat '{key}'", lambda: self.inner.exists(key))

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        reader = self._call(f"open '{key}'", lambda: self.inner.open(key, offset, length))
        return _GuardedReader(self, reader, key)

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        guarded = _GuardedBody(body)
        task = _Task(lambda: self.inner.put(key, guarded, size, if_absent))
        guarded.task = task
        self._helpers.start(task)
        try:
            stored: int = task.wait(self._put_limit, f"put '{key}'")
        except BaseException:
            # Whoever is left in the helper must not touch the body again, and must not complete the object.
            guarded.cut()
            task.done.wait(min(self._limit, 5.0))
            raise
        return stored

    def delete(self, keys: "Iterable[str]") -> None:
        rest = iter(keys)
        while batch := list(islice(rest, _BATCH)):
            self._call("delete objects", partial(self.inner.delete, batch))

    def delete_versions(self, objects: "Iterable[ObjectInfo]") -> None:
        rest = iter(objects)
        while batch := list(islice(rest, _BATCH)):
            self._call("delete versions", partial(self.inner.delete_versions, batch))

    def close(self) -> None:
        self._call("close", self.inner.close)


def _some(infos: "Iterator[ObjectInfo]") -> "Any":
    """The next few entries, `_END` when there are none."""
    batch = list(islice(infos, 256))
    return batch or _END


class _GuardedReader:
    def __init__(self, storage: StallStorage, reader: "Reader", key: str) -> None:
        self._storage = storage
        self._reader = reader
        self._key = key
        self._stalled = False
        self.etag: str | None = getattr(reader, "etag", None)

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._storage._call(f"read '{self._key}'", lambda: self._reader.read(size))
        except TransientError:
            self._stalled = True
            raise

    def close(self) -> None:
        if self._stalled:
            # Closing may block as the read did: leave it to a helper.
            self._storage._helpers.start(_Task(self._reader.close))
        else:
            self._reader.close()


class _GuardedBody:
    """The caller's body as the helper sees it: time spent in it is not the storage's, and it can be cut off."""

    def __init__(self, body: "Reader") -> None:
        self._body = body
        self._lock = threading.Lock()
        self._cut = False
        self.task: _Task | None = None

    def read(self, size: int = -1, /) -> bytes:
        with self._lock:
            if self._cut:
                raise TransientError("the transfer was given up")
            if self.task:
                self.task.paused = True
            try:
                return self._body.read(size)
            finally:
                if self.task:
                    self.task.moved, self.task.paused = time.monotonic(), False

    def moved(self) -> None:
        """For drivers: bytes that were read before have left."""
        if self.task:
            self.task.moved = time.monotonic()

    def cut(self) -> None:
        """From here on reads raise. Waits for one that is under way."""
        self._cut = True
        with self._lock:
            pass

    def close(self) -> None:
        self._body.close()
