"""The primary and its failover storages (spec/storages.md 5): which are alive, which one a command works with."""

import os
import threading
import time
from functools import partial

from walg_core.errors import ConfigError, NoAliveStorage, ObjectNotFound, StorageError, WalgError
from walg_core.observe import log
from walg_core.pipeline.reader import BytesReader
from walg_core.storage.aliveness import Averaging, StatusCache, scaled
from walg_core.storage.api import ObjectInfo, Storage
from walg_core.storage.identity import config_hash
from walg_core.storage.layers.base import Layer
from walg_core.storage.layers.union import UnionStorage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeVar

    from walg_core.context import Context
    from walg_core.pipeline.reader import Reader

    Result = TypeVar("Result")

CHECK_KEY = "wal-g_storage_check"
_MIB = 1 << 20


class Member:
    """One configured storage: its cache key, or the error that kept it from being configured."""

    __slots__ = ("error", "key", "name", "storage")

    def __init__(self, name: str, storage: Storage | None, error: WalgError | None, identity: str) -> None:
        self.name = name
        self.storage = storage
        self.error = error
        self.key = f"{name.lower()}#{identity}"


class Group:
    """All configured storages of one run, in order: the primary, then the failovers by name and configuration."""

    def __init__(self, context: "Context") -> None:
        config = context.config
        self.members = _configure(context)
        self.checking = config.get("WALG_FAILOVER_STORAGES_CHECK") is not False
        self.timeout = float(config.get("WALG_FAILOVER_STORAGES_CHECK_TIMEOUT"))
        self.check_size = int(config.get("WALG_FAILOVER_STORAGES_CHECK_SIZE"))
        averaging = Averaging.of(config)
        lifetime = config.get("WALG_FAILOVER_STORAGES_CACHE_LIFETIME")
        self.caches = {access: StatusCache(access, lifetime, averaging) for access in ("ro", "rw")}

    def names(self) -> "list[str]":
        return [member.name for member in self.members]

    def member(self, name: str) -> Member:
        """By name, whatever its case. Raises ConfigError naming the known ones."""
        for member in self.members:
            if member.name.lower() == name.lower():
                return member
        known = " ".join(self.names())
        raise ConfigError(f'storage with name "{name}" is not found, available storages: [{known}]')

    def open_unchecked(self, name: str) -> Storage:
        """The one called `name` without asking whether it is alive. Raises ConfigError."""
        member = self.member(name)
        if member.storage is None:
            raise member.error or ConfigError(f"storage '{name}' cannot be configured")
        return member.storage

    # Selection.

    def first_alive(self, access: str) -> Storage:
        """The first alive storage; checks no more than it must. Raises NoAliveStorage."""
        usable = self._usable()
        if not self.checking:
            return self._opened(usable[0], access)
        cache = self.caches[access]
        for member in usable:
            if not cache.fresh(member.key):
                break
            if cache.alive(member.key):
                return self._opened(member, access)
        return self._opened(self._checked(usable, access)[0], access)

    def all_alive(self, access: str) -> "list[Storage]":
        """Every alive storage, in order. Raises NoAliveStorage."""
        usable = self._usable()
        if self.checking:
            cache = self.caches[access]
            fresh = [cache.fresh(member.key) for member in usable]
            alive = [member for member in usable if cache.alive(member.key)]
            usable = alive if alive and all(fresh) else self._checked(usable, access)
        return [self._opened(member, access) for member in usable]

    def named(self, name: str, access: str) -> Storage:
        """The one called `name`, if it is alive. Raises ConfigError, NoAliveStorage."""
        member = self.member(name)
        if member.storage is None:
            raise NoAliveStorage(f"storage '{member.name}' cannot be configured: {member.error}") from member.error
        if self.checking:
            cache = self.caches[access]
            if not (cache.fresh(member.key) and cache.alive(member.key)):
                self._check([member], access)
                if not cache.alive(member.key):
                    raise _none_alive([member.name])
        return self._opened(member, access)

    def dead_names(self, alive: "Sequence[Storage]") -> "list[str]":
        """The configured storages that are not among `alive`."""
        names = {storage.name for storage in alive}
        return [member.name for member in self.members if member.name not in names]

    def _usable(self) -> "list[Member]":
        usable = [member for member in self.members if member.storage is not None]
        if not usable:
            raise _none_alive(self.names())
        return usable

    def _checked(self, usable: "Sequence[Member]", access: str) -> "list[Member]":
        """The alive ones after checking those whose status is outdated, and all others when none of them is."""
        cache = self.caches[access]
        fresh = {member.key for member in usable if cache.fresh(member.key)}
        self._check([member for member in usable if member.key not in fresh], access)
        alive = [member for member in usable if cache.alive(member.key)]
        if not alive:
            self._check([member for member in usable if member.key in fresh], access)
            alive = [member for member in usable if cache.alive(member.key)]
        if not alive:
            raise _none_alive(self.names())
        return alive

    def _opened(self, member: Member, access: str) -> Storage:
        if member.storage is None:
            raise _none_alive([member.name])
        return ReportingStorage(member.storage, self.caches[access], member.key) if self.checking else member.storage

    # Checks.

    def _check(self, members: "Sequence[Member]", access: str) -> None:
        """Ask all of them at once, within the time limit for all together."""
        results: dict[str, bool] = {}

        def run(member: Member) -> None:
            storage = member.storage
            try:
                if storage is not None:
                    _try_out(storage, self.check_size if access == "rw" else None)
                    results.setdefault(member.key, True)
            except Exception as error:
                kind = "read" if access == "ro" else "write"
                if member.key not in results:
                    log.error(f"storage '{member.name}': {kind} check: {error}")
                results.setdefault(member.key, False)

        threads = [threading.Thread(target=run, args=(member,), daemon=True) for member in members]
        for thread in threads:
            thread.start()
        until = time.monotonic() + self.timeout
        for thread, member in zip(threads, members, strict=True):
            thread.join(max(0.0, until - time.monotonic()))
            if member.key not in results:
                log.error(f"storage '{member.name}': alive check timeout")
            self.caches[access].check(member.key, results.setdefault(member.key, False))
        self.caches[access].save()

    def save(self) -> None:
        """Write down what the operations of this run have taught."""
        for cache in self.caches.values():
            cache.save()


def _none_alive(names: "Sequence[str]") -> NoAliveStorage:
    return NoAliveStorage(
        "no alive storages", hint=f"{', '.join(names)}: the lines above say what failed; `wal-g st check write -t NAME`"
    )


def _try_out(storage: Storage, size: int | None) -> None:
    """List; with a size also write an object of it and delete it, and really look at the results."""
    next(iter(storage.list_dir()), None)
    if size is not None:
        storage.put(CHECK_KEY, BytesReader(os.urandom(size)), size)
        storage.delete([CHECK_KEY])


def _configure(context: "Context") -> "list[Member]":
    from walg_core.storage.registry import open_config

    values = context.config.get("WALG_FAILOVER_STORAGES") or {}
    failovers = []
    for name, settings in values.items():
        if name.lower() == "default":
            raise ConfigError("WALG_FAILOVER_STORAGES: the name 'default' is reserved for the primary storage")
        if name.lower() == "all" or not isinstance(settings, dict):
            reason = "the name 'all' is reserved" if name.lower() == "all" else f"'{name}' must be a map of settings"
            raise ConfigError(f"WALG_FAILOVER_STORAGES: {reason}")
        nested = context.config.nested(settings, f"WALG_FAILOVER_STORAGES: {name}")
        failovers.append(_member(name, partial(open_config, context, nested, name=name)))
    failovers.sort(key=lambda member: member.key)
    return [_member("default", context.primary_storage), *failovers]


def _member(name: str, make: "Callable[[], Storage]") -> Member:
    """A storage that cannot be configured is dead, it does not end the command: that is what failovers are for."""
    try:
        storage = make()
    except WalgError as error:
        log.error(f"storage '{name}' cannot be configured and counts as dead: {error}")
        return Member(name, None, error, "")
    return Member(name, storage, None, config_hash(storage))


def group(context: "Context") -> Group:
    """The group of this run, configured once."""
    found = context._shared.get("failover")
    if found is None:
        found = context._shared["failover"] = Group(context)
        context._storages.append(_Saver(found))
    return found


class _Saver(Storage):
    """Closed with the context's storages: saves the statuses and closes the failovers."""

    def __init__(self, members: Group) -> None:
        self._group = members

    def close(self) -> None:
        self._group.save()
        for member in self._group.members:
            if member.storage is not None:
                member.storage.close()


def open_for_writing(context: "Context", target: str) -> Storage:
    """`target`, the mirrors, or the first alive storage."""
    members = group(context)
    if target:
        return members.named(target, "rw")
    mirrors = _mirrors(context, members)
    return mirrors or members.first_alive("rw")


def open_for_reading(context: "Context", target: str, *, writable: bool = False) -> "list[Storage]":
    """`target`, the mirrors as one, or all alive storages; a union of them knows the dead ones."""
    members = group(context)
    access = "rw" if writable else "ro"
    if target:
        return [members.named(target, access)]
    mirrors = _mirrors(context, members)
    return [mirrors] if mirrors else members.all_alive(access)


def union(context: "Context", storages: "Sequence[Storage]") -> Storage:
    """One view of `storages` that knows which configured storages are missing from it."""
    dead = group(context).dead_names(storages)
    return UnionStorage(storages, dead) if dead or len(storages) > 1 else storages[0]


def _mirrors(context: "Context", members: Group) -> Storage | None:
    text = context.config.get("WALG_MIRROR_STORAGES") or ""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        return None
    found = [members.member(name) for name in names]
    if len({member.key for member in found}) < len(found):
        raise ConfigError("WALG_MIRROR_STORAGES: a storage is named twice")
    quorum = context.config.get("WALG_MIRROR_QUORUM") or len(found) // 2 + 1
    if quorum > len(found):
        raise ConfigError(f"WALG_MIRROR_QUORUM is {quorum}, but WALG_MIRROR_STORAGES names {len(found)} storages")
    from walg_core.storage.layers.dead import DeadStorage
    from walg_core.storage.layers.mirror import MirrorStorage

    return MirrorStorage([member.storage or DeadStorage(member.name, member.error) for member in found], quorum)


class ReportingStorage(Layer):
    """Tells the status cache how operations went; a missing object is a success (spec/storages.md 5.4)."""

    def __init__(self, inner: Storage, cache: StatusCache, key: str) -> None:
        super().__init__(inner)
        self._cache = cache
        self._key = key

    def _report(self, success: bool, weight: float) -> None:
        self._cache.report(self._key, success, weight)

    def _observed(self, weight: float, operation: "Callable[[], Result]", quiet: bool = False) -> "Result":
        try:
            result = operation()
        except ObjectNotFound:
            self._report(True, weight)
            raise
        except StorageError:
            self._report(False, weight)
            raise
        if not quiet:
            self._report(True, weight)
        return result

    def _listing(self, infos: "Iterator[ObjectInfo]") -> "Iterator[ObjectInfo]":
        try:
            yield from infos
        except StorageError:
            self._report(False, 2000)
            raise
        self._report(True, 2000)

    def list(self, prefix: str = "", start_after: str | None = None) -> "Iterator[ObjectInfo]":
        return self._listing(self.inner.list(prefix, start_after))

    def list_dir(self, prefix: str = "") -> "Iterator[ObjectInfo]":
        return self._listing(self.inner.list_dir(prefix))

    def list_dirs(self, prefix: str = "") -> "Sequence[str]":
        return self._observed(2000, lambda: self.inner.list_dirs(prefix))

    def stat(self, key: str) -> ObjectInfo:
        return self._observed(1000, lambda: self.inner.stat(key))

    def exists(self, key: str) -> bool:
        return self._observed(1000, lambda: self.inner.exists(key), quiet=True)

    def open(self, key: str, offset: int = 0, length: int | None = None) -> "Reader":
        try:
            return _ReportingReader(self.inner.open(key, offset, length), self._report)
        except ObjectNotFound:
            self._report(True, 1000)
            raise
        except StorageError:
            self._report(False, 1000)
            raise

    def put(self, key: str, body: "Reader", size: int | None = None, if_absent: bool = False) -> int:
        try:
            stored = self.inner.put(key, body, size, if_absent)
        except StorageError:
            self._report(False, 1000)
            raise
        self._report(True, scaled(1000, stored // _MIB))
        return stored

    def delete(self, keys: "Iterable[str]") -> None:
        wanted = [*keys]
        self._observed(scaled(500, len(wanted)), lambda: self.inner.delete(wanted))

    def copy(self, source: str, target: str) -> None:
        self._observed(2000, lambda: self.inner.copy(source, target))

    def close(self) -> None:
        """The storage belongs to the group."""


class _ReportingReader:
    """Reports once: at the end, on an error, or when it is closed early."""

    def __init__(self, reader: "Reader", report: "Callable[[bool, float], None]") -> None:
        self._reader = reader
        self._report: Callable[[bool, float], None] | None = report
        self._count = 0
        self.etag: str | None = getattr(reader, "etag", None)

    def read(self, size: int = -1, /) -> bytes:
        try:
            piece = self._reader.read(size)
        except StorageError:
            self._tell(False)
            raise
        self._count += len(piece)
        if not piece and size:
            self._tell(True)
        return piece

    def _tell(self, success: bool) -> None:
        report, self._report = self._report, None
        if report:
            report(success, scaled(1000, self._count // _MIB))

    def close(self) -> None:
        self._tell(True)
        self._reader.close()
