"""Backups in progress and deletions in progress, visible to each other through the storage itself.

A backup has no sentinel until it is whole, so that its parts look like garbage, and nothing says which base and which
logs it will need. A claim says so: a small object beside the sentinels, which the original ignores (it looks for names
that end in the sentinel's suffix, and at folders). Whoever holds one refreshes it; after `EXPIRY` without, or when its
process is known to be gone, it is stale and means nothing.

Two who change the same archive write their claim first and look for the other's then; so at least one sees the other.
"""

import itertools
import os
import time

from walg_core.backups import gojson, times
from walg_core.backups.names import FOLDER
from walg_core.errors import ObjectNotFound, StorageError, WalgError
from walg_core.observe import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Any

    from walg_core.storage.api import Storage

PREFIX = "walg_claim_"
BACKUP, DELETION = "backup", "delete"
REFRESH = 300.0
"""Seconds between two refreshes."""
EXPIRY = 30 * 60 * times.SECOND
"""Nanoseconds without a refresh after which a claim is stale. Clocks of hosts may differ by less than this."""
_LIMIT = 1 << 20
_numbers = itertools.count(1)


class Claim:
    """One claim as it was found. `values`: what the holder says, engine by engine.

    Of a backup `name` is the name it will have, and `values["base"]` the backup that it builds on; of a deletion
    `values["names"]` are the backups that go. Raises KeyError, TypeError, ValueError for what is no claim.
    """

    __slots__ = ("host", "key", "kind", "name", "pid", "since", "values")

    def __init__(self, key: str, values: "Mapping[str, Any]") -> None:
        self.key = key
        self.kind = str(values["kind"])
        self.name = str(values["name"])
        self.host = str(values["host"])
        self.pid = int(values["pid"])
        self.since = str(values["since"])
        self.values = values

    @property
    def base(self) -> str:
        """The backup that this one builds on, "" for none."""
        found = self.values.get("base")
        return found if isinstance(found, str) else ""

    def __str__(self) -> str:
        return f"in progress on {self.host} since {self.since} (process {self.pid})"


class Held:
    """A claim of this process, from entering to leaving; a thread refreshes it in between.

    Entering raises StorageError. Leaving does not: a claim that cannot be removed becomes stale by itself.
    """

    def __init__(
        self, storage: "Storage", kind: str, name: str, values: "Mapping[str, Any]", folder: str = FOLDER
    ) -> None:
        self._storage = storage
        self.key = f"{folder}{PREFIX}{name}.json"
        self._body = gojson.dumps(
            {"kind": kind, "name": name, "since": times.format_utc(times.now(), 0), **_process(), **values}
        )
        self._ended: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Held":
        import threading

        try:
            self._storage.put_bytes(self.key, self._body)
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._refresh, name="claim", daemon=True)
            self._thread.start()
        except StorageError:
            raise
        except BaseException:
            # A signal may come when the claim is visible and its upload has not returned yet.
            self._give_up()
            raise
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if self._ended and self._thread and self._thread.ident is not None:
            self._ended.set()
            self._thread.join()
        try:
            self._storage.delete([self.key])
        except StorageError as failure:
            log.warning(f"the claim '{self.key}' stays behind and is stale in half an hour: {failure}")

    def _refresh(self) -> None:
        while self._ended and not self._ended.wait(REFRESH):
            try:
                self._storage.put_bytes(self.key, self._body)
            except StorageError as error:
                log.warning(f"the claim '{self.key}' could not be refreshed: {error}")


def of_backup(storage: "Storage", name: str, values: "Mapping[str, Any]", folder: str = FOLDER) -> Held:
    """The claim of a backup that is about to be stored under `name`."""
    return Held(storage, BACKUP, name, values, folder)


def of_mark(storage: "Storage", name: str, base: str, folder: str = FOLDER) -> Held:
    """The claim of a backup whose sentinel is about to be rewritten; each such command has one of its own."""
    own = f"{name}_{os.uname().nodename}_{os.getpid()}_{next(_numbers)}"
    return Held(storage, BACKUP, own, {"name": name, "base": base}, folder)


def of_deletion(storage: "Storage", names: "Iterable[str]") -> Held:
    """The claim of a deletion of these backups."""
    name = f"{DELETION}_{os.uname().nodename}_{os.getpid()}_{next(_numbers)}"
    return Held(storage, DELETION, name, {"names": sorted(names)})


def live(storage: "Storage", kind: str = "", folder: str = FOLDER) -> list[Claim]:
    """The claims (of one kind) that are not stale, this process's own among them. Raises StorageError."""
    return [claim for _, claim in _all(storage, folder) if claim and kind in ("", claim.kind)]


def remove_stale(storage: "Storage", folder: str = FOLDER) -> None:
    """Delete what crashed processes left. Raises StorageError."""
    storage.delete([key for key, claim in _all(storage, folder) if claim is None])


def _all(storage: "Storage", folder: str) -> "Iterator[tuple[str, Claim | None]]":
    """The keys of all claims, with those that live; an object that is no claim counts as stale."""
    now = time.time_ns()
    for info in list(storage.list_dir(folder)):
        if not is_claim(info.key, folder):
            continue
        try:
            claim = _parse(info.key, storage.get(info.key, _LIMIT))
        except ObjectNotFound:
            continue
        fresh = claim is not None and now - info.modified_ns < EXPIRY and not _dead(claim)
        yield info.key, claim if fresh else None


def is_claim(key: str, folder: str = FOLDER) -> bool:
    """Whether the object is a claim, live or stale."""
    return key.startswith(folder + PREFIX)


def check_not_doomed(storage: "Storage", names: "Iterable[str]") -> None:
    """Raises WalgError when a deletion in progress takes one of these backups. Call it after claiming."""
    wanted = set(names)
    for claim in live(storage, DELETION):
        doomed = wanted.intersection(claim.values.get("names") or ())
        if doomed:
            raise WalgError(
                f"backup {min(doomed)} is being deleted: a deletion is {claim}",
                hint="run the command again when the deletion has ended",
            )


def check_no_deletion(storage: "Storage") -> None:
    """Raises WalgError when anything is being deleted. Call it after claiming."""
    for claim in live(storage, DELETION):
        raise WalgError(
            f"there is a deletion, {claim}, where backups shall be copied to",
            hint="run the command again when the deletion has ended",
        )


def _parse(key: str, body: bytes) -> Claim | None:
    import json

    try:
        return Claim(key, json.loads(body))
    except (ValueError, KeyError, TypeError):
        return None


def _process() -> "dict[str, Any]":
    """Which process this is. `boot`, `space` and `start` make sure that a number means the same process elsewhere."""
    return {"host": os.uname().nodename, "pid": os.getpid(), **_place(), "start": _start(os.getpid())}


def _place() -> dict[str, str]:
    """The boot and the space of process numbers; empty where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return {"boot": file.read().strip(), "space": os.readlink("/proc/self/ns/pid")}
    except OSError:
        return {}


def _start(pid: int) -> str:
    """When the process began, in the kernel's clock ticks; "" when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return ""


def _dead(claim: Claim) -> bool:
    """Whether the claim's process ran here and runs no more."""
    place = _place()
    if not place or any(claim.values.get(name) != value for name, value in place.items()):
        return False
    return _start(claim.pid) != claim.values.get("start")
