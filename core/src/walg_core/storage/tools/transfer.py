"""Moving objects from one storage to another: copy, wait until the copy appears, delete (spec/storages.md 6.3)."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from walg_core.errors import StorageError, WalgError
from walg_core.observe import log
from walg_core.storage.api import ObjectInfo, Storage

NO_LIMIT = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Options:
    """`appearance_checks`: looks for each copy in the target (0: none), `appearance_interval` seconds apart."""

    overwrite: bool = False
    preserve: bool = False
    fail_fast: bool = False
    concurrency: int = 10
    max_files: int = NO_LIMIT
    max_backups: int = NO_LIMIT
    appearance_checks: int = 3
    appearance_interval: float = 1.0

    def validate(self, source: str, target: str) -> None:
        """Raises WalgError with the original's words."""
        problem = ""
        if not source:
            problem = "source storage must be specified"
        elif source == "all":
            problem = "an explicit source storage must be specified instead of 'all'"
        elif target == "all":
            problem = "an explicit target storage must be specified instead of 'all'"
        elif source == target:
            problem = "source and target storages must be different"
        elif self.concurrency < 1:
            problem = "concurrency level must be >= 1 (which turns it off)"
        if problem:
            raise WalgError(f"invalid flags: {problem}")


@dataclass(slots=True)
class Group:
    """Objects that move together. `last` is copied after all `first` have appeared, and deleted before them."""

    first: list[ObjectInfo]
    last: ObjectInfo | None = None

    def __len__(self) -> int:
        return len(self.first) + (self.last is not None)


@dataclass(slots=True)
class _Progress:
    left: int
    errors: list[WalgError] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)


def missing_files(source: Storage, target: Storage, prefix: str, options: Options) -> list[ObjectInfo]:
    """What the source has below the prefix (with `overwrite`: all of it), sorted by key; logs the counts."""
    from walg_core.storage.tools.objects import below

    found = list(below(source, prefix))
    there = {info.key: info.size for info in below(target, prefix)}
    for info in found:
        if info.key in there and there[info.key] != info.size:
            log.warning(
                f'object "{info.key}" has {info.size} bytes in the source and {there[info.key]} in the target storage'
            )
    wanted = [info for info in found if options.overwrite or info.key not in there]
    log.info(f"Total files in the source storage: {len(found)}")
    log.info(f"Files missing in the target storage: {len(wanted)}")
    return wanted


def transfer_files(source: Storage, target: Storage, prefix: str, options: Options) -> None:
    """Every object below the prefix, each for itself. Raises StorageError when some could not be moved."""
    wanted = missing_files(source, target, prefix, options)[: options.max_files]
    log.info(f"Files will be transferred: {len(wanted)}")
    run(source, target, [Group([info]) for info in wanted], options)


def transfer_backups(
    source: Storage, target: Storage, options: Options, *, folder: str, prefix: str, sentinel: str, name: str = ""
) -> None:
    """Whole backups: those whose name starts with `prefix`, or only `name`.

    A backup is `folder` + name + `/…` and its sentinel, `folder` + name + `sentinel`. One that lacks either among the
    missing objects is left alone.
    """
    wanted = missing_files(source, target, folder, options)
    data: dict[str, list[ObjectInfo]] = {}
    sentinels: dict[str, ObjectInfo] = {}
    for info in wanted:
        first, slash, _ = info.key[len(folder) :].partition("/")
        if not first.startswith(prefix):
            continue
        if slash:
            data.setdefault(first, []).append(info)
        elif first.endswith(sentinel):
            sentinels[first.removesuffix(sentinel)] = info
    names = sorted(set(data) & set(sentinels))
    if name:
        if name not in names:
            raise StorageError(
                f'backup "{name}" is not among those missing in the target storage',
                hint="with --overwrite a backup that is there already is moved again",
            )
        names = [name]
    log.info(f"Backups missing in the target storage: {len(names)}")
    groups: list[Group] = []
    for each in names:
        group = Group(data[each], sentinels[each])
        if len(groups) >= options.max_backups or sum(map(len, groups)) + len(group) > options.max_files:
            break
        groups.append(group)
    log.info(f"Backups will be transferred: {len(groups)}")
    log.info(f"Files will be transferred: {sum(map(len, groups))}")
    run(source, target, groups, options)


def run(source: Storage, target: Storage, groups: list[Group], options: Options) -> None:
    """Move all groups, `concurrency` objects at a time. Raises StorageError at the end when anything failed.

    A group of which one object cannot be copied never gets its `last` copied, and loses nothing in the source.
    """
    progress = _Progress(sum(map(len, groups)))
    mover = _Mover(source, target, options, progress)
    with ThreadPoolExecutor(options.concurrency) as pool:
        try:
            for group in groups:
                if progress.stop.is_set():
                    break
                mover.move(group, pool)
            mover.finish()
        finally:
            progress.stop.set()
            pool.shutdown(cancel_futures=True)
    if progress.errors:
        if options.fail_fast:
            raise progress.errors[0]
        raise StorageError(f"finished with {len(progress.errors)} errors")


class _Mover:
    """Keeps at most a few groups under way, so that memory does not grow with their number."""

    def __init__(self, source: Storage, target: Storage, options: Options, progress: _Progress) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._progress = progress
        self._running: set[Future[None]] = set()

    def move(self, group: Group, pool: ThreadPoolExecutor) -> None:
        while len(self._running) >= 2 * self._options.concurrency:
            self._collect(FIRST_COMPLETED)
        if group.last is None:
            self._running.add(pool.submit(self._single, group.first[0]))
            return
        self.finish()
        if self._progress.stop.is_set():
            return
        # A backup: its files in parallel, then the sentinel; then the source's sentinel goes before its files.
        if not self._together(group.first, self._copy, pool) or not self._together([group.last], self._copy, pool):
            return
        if not self._options.preserve and self._together([group.last], self._forget, pool):
            self._together(group.first, self._forget, pool)
        for info in (*group.first, group.last):
            self._report(info)

    def finish(self) -> None:
        while self._running:
            self._collect(FIRST_COMPLETED)

    def _collect(self, how_long: str) -> None:
        done, self._running = wait(self._running, return_when=how_long)
        for future in done:
            future.result()

    def _together(
        self, infos: Iterable[ObjectInfo], action: Callable[[ObjectInfo], bool], pool: ThreadPoolExecutor
    ) -> bool:
        return all(list(pool.map(action, infos)))

    def _single(self, info: ObjectInfo) -> None:
        if self._copy(info) and (self._options.preserve or self._forget(info)):
            self._report(info)

    def _copy(self, info: ObjectInfo) -> bool:
        return self._attempt(info, self._copy_now)

    def _forget(self, info: ObjectInfo) -> bool:
        return self._attempt(info, lambda info: self._source.delete([info.key]))

    def _attempt(self, info: ObjectInfo, action: Callable[[ObjectInfo], None]) -> bool:
        """Whether it succeeded; a failure is noted, and with fail-fast stops everything."""
        if self._progress.stop.is_set():
            return False
        try:
            action(info)
        except WalgError as error:
            log.error(f'transfer of "{info.key}": {error}')
            with self._progress.lock:
                self._progress.errors.append(error)
            if self._options.fail_fast:
                self._progress.stop.set()
            return False
        return True

    def _copy_now(self, info: ObjectInfo) -> None:
        reader = self._source.open(info.key)
        try:
            self._target.put(info.key, reader, info.size)
        finally:
            reader.close()
        for check in range(self._options.appearance_checks):
            if self._target.exists(info.key):
                return
            if check + 1 < self._options.appearance_checks:
                time.sleep(self._options.appearance_interval)
        if self._options.appearance_checks:
            raise StorageError(
                f'object "{info.key}" has been written but does not appear in the target storage', key=info.key
            )

    def _report(self, info: ObjectInfo) -> None:
        with self._progress.lock:
            self._progress.left -= 1
            left = self._progress.left
        log.info(f'File is transferred ({left} left): "{info.key}"')
