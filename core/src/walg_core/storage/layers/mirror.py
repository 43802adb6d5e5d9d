"""Every object in several storages at once: a write succeeds when a quorum of them has stored it."""

import contextlib
import queue
import threading

from walg_core.errors import AbsenceUnsure, ObjectExists, ObjectNotFound, StorageError, TransientError
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK
from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.layers.union import UnionStorage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from walg_core.pipeline.reader import Reader

_AHEAD = 2
"""Pieces (of at most 1 MiB) that one storage may lag behind the body before the body waits for it."""


class MirrorStorage(Storage):
    """Writes go to all of `storages` in parallel, reads come from the first that has the object.

    An object that a quorum of N storages holds can be missing from N - quorum of them at most, so "not found" is only
    said when more than that many have said it. A put below the quorum raises, and takes back the new object.
    """

    def __init__(self, storages: "Sequence[Storage]", quorum: int) -> None:
        self.storages = [*storages]
        self.quorum = quorum
        self.name = storages[0].name
        self.description = " = ".join(storage.description for storage in storages)
        capabilities = storages[0].capabilities
        for storage in storages[1:]:
            if not storage.capabilities.keys_may_nest:
                capabilities = capabilities.replace(keys_may_nest=False)
        self.capabilities = capabilities.replace(put_if_absent=False)

    # Writing.

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        before = self._all(lambda storage: storage.exists(key), f"look for '{key}'")
        if if_absent and True in before.values():
            raise ObjectExists(key)
        tees = {storage: _Tee() for storage, found in before.items() if not isinstance(found, StorageError)}
        self._enough(before, [*tees], f"put '{key}'")
        results: dict[Storage, object] = {}

        def store(storage: Storage, tee: _Tee) -> None:
            try:
                results[storage] = storage.put(key, tee, size)
            except BaseException as error:
                results[storage] = error
            tee.leave()

        threads = [threading.Thread(target=store, args=pair, daemon=True) for pair in tees.items()]
        for thread in threads:
            thread.start()
        failed: BaseException | None = None
        try:
            _pour(body, [*tees.values()])
        except BaseException as error:
            failed = error
            for tee in tees.values():
                tee.fail(error)
        for thread in threads:
            thread.join()
        stored = [storage for storage, result in results.items() if isinstance(result, int)]
        try:
            if failed:
                raise failed
            self._enough(results | {s: r for s, r in before.items() if s not in tees}, stored, f"put '{key}'")
        except BaseException:
            self._take_back(key, [storage for storage in stored if before[storage] is False])
            raise
        return int(results[stored[0]])  # type: ignore[call-overload,no-any-return]

    def _take_back(self, key: str, storages: "Sequence[Storage]") -> None:
        for storage in storages:
            try:
                storage.delete([key])
            except StorageError as error:
                log.warning(f"storage '{storage.name}' keeps '{key}', which was not stored in enough storages: {error}")

    def delete(self, keys: "Iterable[str]") -> None:
        wanted = [*keys]
        results = self._all(lambda storage: storage.delete(wanted), "delete")
        self._every(results, f"delete {len(wanted)} objects")

    def copy(self, source: str, target: str) -> None:
        results = self._all(lambda storage: storage.copy(source, target), f"copy '{source}'")
        missing = [error for error in results.values() if isinstance(error, ObjectNotFound)]
        if len(missing) > len(self.storages) - self.quorum:
            raise missing[0]
        self._enough(results, [s for s, result in results.items() if result is None], f"copy '{source}'")

    # Reading.

    def stat(self, key: str) -> ObjectInfo:
        return self._read(key, lambda storage: storage.stat(key))  # type: ignore[return-value]

    def exists(self, key: str) -> bool:
        try:
            self.stat(key)
        except ObjectNotFound:
            return False
        return True

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        return self._read(key, lambda storage: storage.open(key, offset, length))  # type: ignore[return-value]

    def _read(self, key: str, ask: "Callable[[Storage], object]") -> object:
        missing = 0
        failures = []
        for storage in self.storages:
            try:
                return ask(storage)
            except ObjectNotFound:
                missing += 1
            except StorageError as error:
                failures.append(f"storage '{storage.name}': {error}")
        if missing > len(self.storages) - self.quorum:
            raise ObjectNotFound(key)
        raise AbsenceUnsure(
            f"object '{key}' is not in the storages that answered, and too few did: {'; '.join(failures)}", key=key
        )

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        return UnionStorage(self._answering(prefix)).list(prefix, start_after)

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return UnionStorage(self._answering(prefix)).list_dir(prefix)

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return UnionStorage(self._answering(prefix)).list_dirs(prefix)

    def _answering(self, prefix: str) -> "Sequence[Storage]":
        """Those that can list; enough of them to have every object between them."""
        results = self._all(lambda storage: next(storage.list_dir(prefix), None), f"list '{prefix}'")
        good = [storage for storage, result in results.items() if not isinstance(result, StorageError)]
        if len(good) <= len(self.storages) - self.quorum:
            self._every(results, f"list '{prefix}'")
        return good

    # All at once.

    def _all(self, ask: "Callable[[Storage], object]", what: str) -> "dict[Storage, object]":
        """What each storage answers, or its StorageError; anything else is raised."""
        results: dict[Storage, object] = {}

        def run(storage: Storage) -> None:
            try:
                results[storage] = ask(storage)
            except BaseException as error:
                results[storage] = error

        threads = [threading.Thread(target=run, args=(storage,), daemon=True) for storage in self.storages]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for storage, result in results.items():
            if isinstance(result, StorageError) and not isinstance(result, ObjectNotFound):
                log.warning(f"storage '{storage.name}': {what}: {result}")
            elif isinstance(result, BaseException) and not isinstance(result, StorageError):
                raise result
        return {storage: results[storage] for storage in self.storages}

    def _enough(self, results: "dict[Storage, object]", good: "Sequence[Storage]", what: str) -> None:
        errors = {s: error for s, error in results.items() if s not in good and isinstance(error, BaseException)}
        for storage, error in errors.items():
            if not isinstance(error, StorageError):
                raise error
            if len(good) >= self.quorum:
                log.warning(f"storage '{storage.name}': {what}: {error}; the other {len(good)} suffice")
        if len(good) < self.quorum:
            raise _first_error(errors, f"{what}: {len(good)} of {self.quorum} needed storages succeeded")

    def _every(self, results: "dict[Storage, object]", what: str) -> None:
        errors: dict[Storage, BaseException] = {s: e for s, e in results.items() if isinstance(e, StorageError)}
        if errors:
            raise _first_error(errors, f"{what}: {len(errors)} of {len(results)} storages failed")

    def close(self) -> None:
        """The storages belong to whoever opened them."""

    def identity(self) -> str:
        return " = ".join(storage.identity() for storage in self.storages)


def _first_error(errors: "dict[Storage, BaseException]", what: str) -> StorageError:
    reasons = "; ".join(f"storage '{storage.name}': {error}" for storage, error in errors.items())
    if len({type(error) for error in errors.values()}) == 1:
        first = next(iter(errors.values()))
        if len(errors) == 1 and isinstance(first, StorageError):
            return first
    return TransientError(f"{what}: {reasons}")


class _Tee:
    """One storage's share of the body: a bounded queue that the pouring thread fills."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._rest = b""
        self._ended = False
        self._gone = threading.Event()

    def read(self, size: int = -1, /) -> bytes:
        if size == 0 or (self._ended and not self._rest):
            return b""
        if not self._rest:
            piece = self._pieces.get()
            if isinstance(piece, BaseException):
                raise piece
            self._rest = piece
            self._ended = not piece
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return taken

    def give(self, piece: "bytes | BaseException") -> None:
        """Waits while the storage lags behind; returns at once when it has given up."""
        while not self._gone.is_set():
            try:
                self._pieces.put(piece, timeout=0.2)
            except queue.Full:
                continue
            return

    def fail(self, error: BaseException) -> None:
        self.give(error)

    def leave(self) -> None:
        self._gone.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._pieces.get_nowait()

    def close(self) -> None:
        self.leave()


def _pour(body: "Reader", tees: "Sequence[_Tee]") -> None:
    while True:
        piece = body.read(CHUNK)
        for tee in tees:
            tee.give(piece)
        if not piece:
            return
