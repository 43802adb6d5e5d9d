"""The `delete` commands: read the history, decide, show the plan, delete in a safe order (spec 14)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.backups import claims
from walg_core.errors import UsageError
from walg_core.observe import log

from walg_pg.catalog import deletion, targets
from walg_pg.catalog.backups import LATEST, find_by_user_data
from walg_pg.catalog.deletion import Decision, Objects, Refused
from walg_pg.catalog.history import History, Record, read_history
from walg_pg.catalog.running import running
from walg_pg.names import BASEBACKUPS, SENTINEL_SUFFIX, WAL_FOLDER

if TYPE_CHECKING:
    from typing import Any

    from walg_core.context import Context
    from walg_core.storage.api import ObjectInfo, Storage

Choose = Callable[[Objects, Iterable["ObjectInfo"]], Iterator["ObjectInfo"]]
Decide = Callable[[History], "tuple[Decision, Choose] | None"]
"""A form of `delete`: what it decides over a history, and which objects that means; None: nothing is to be deleted."""
_ATTEMPTS = 5


@dataclass(slots=True)
class Plan:
    """What goes, by storage: the objects of a listing, and the backups whose objects are among them."""

    decision: Decision
    objects: list[list[ObjectInfo]]
    owners: list[set[str]]

    def same_backups(self, other: Plan) -> bool:
        """Whether both delete the same backups."""
        return self.owners == other.owners and self.decision.deleted.keys() == other.decision.deleted.keys()


@dataclass(slots=True)
class Deleter:
    """One run of `delete`. Without `confirm` nothing is changed. `now_ns` is the clock of the policies."""

    storages: Sequence[Storage]
    segment_size: int
    confirm: bool = False
    by_time: bool = False
    now_ns: int = 0

    def history(self) -> History:
        """Every backup there is, and those in progress. Raises StorageError, IntegrityError."""
        under_way = running(self.storages, self.segment_size)
        return read_history(self.storages, segment_size=self.segment_size, by_time=self.by_time, running=under_way)

    # The forms.

    def before(self, modifier: str, text: str) -> int:
        """`delete before`; returns the number of objects (to be) deleted. Raises WalgError."""
        return self._run(lambda history: _before(history, targets.before(history, modifier, text)))

    def retain(self, modifier: str, count: int, after: str = "") -> int:
        """`delete retain N`, with the older of that target and the one of `--after`."""
        if count < 1:
            raise UsageError(f"the number of backups to retain must be positive, not {count}")

        def decide(history: History) -> tuple[Decision, Choose] | None:
            target = targets.retain(history, modifier, count)
            # Fewer backups than that: nothing may go, whatever the time bound says.
            if after and target is not None:
                target = targets.older(history, target, targets.after(history, modifier, after))
            return _before(history, target)

        return self._run(decide)

    def policy(self, policy: targets.Policy) -> int:
        """`delete retain --keep-within … --daily …`: keeps what a rule keeps."""
        now = self.now_ns or time.time_ns()

        def decide(history: History) -> tuple[Decision, Choose] | None:
            keep, window = targets.apply(history, policy, now)
            if window is None:
                return None
            log.info(f"point-in-time recovery stays possible from {window.name} on")
            return deletion.keep_only(history, keep, window), Objects.by_policy

        return self._run(decide)

    def target(self, modifier: str, name: str, user_data: Any = None, *, force: bool = False) -> int:
        """`delete target`: one backup with all that depends on it, no WAL."""
        if modifier not in ("", targets.FIND_FULL):
            raise UsageError(f"`delete target` takes no modifier but {targets.FIND_FULL}, not {modifier}")
        whole = modifier == targets.FIND_FULL
        if user_data is not None:
            name = find_by_user_data(self.storages, user_data).name
        elif name == LATEST:
            name = _latest(self.history()).name

        def decide(history: History) -> tuple[Decision, Choose] | None:
            record = targets.find(history, name, exactly=True)
            return deletion.of_family(history, record, whole=whole, force=force), Objects.of_deleted

        return self._run(decide, BASEBACKUPS, relative_to=BASEBACKUPS)

    def everything(self, *, force: bool) -> int:
        """`delete everything`: every object; with permanent backups, or one in progress, only when forced."""

        def decide(history: History) -> tuple[Decision, Choose] | None:
            if not force:
                deletion.refuse_everything(history)
            decision = Decision(deleted={(r.storage, r.name): "everything goes" for r in history.records})
            return decision, lambda _objects, listing: iter(listing)

        return self._run(decide)

    def garbage(self, part: str, *, without_backup_check: bool = False) -> int:
        """`delete garbage [ARCHIVES|BACKUPS]`: leftovers before the oldest backup that is not permanent.

        As in the original the order is that of the names, whatever `by_time` says: leftovers have no other time.
        """
        self.by_time = False
        folder = {"": "", "ARCHIVES": WAL_FOLDER, "BACKUPS": BASEBACKUPS}.get(part)
        if folder is None:
            raise UsageError(f"`delete garbage` takes ARCHIVES or BACKUPS, not {part}")

        def decide(history: History) -> tuple[Decision, Choose] | None:
            target = targets.garbage(history)
            if target is not None:
                return _before(history, target)
            if without_backup_check:
                return deletion.keep_all(history, "it is permanent"), Objects.unprotected
            log.info("Couldn't find any non-permanent backups in storage. Not doing anything.")
            return None

        return self._run(decide, folder)

    # Carrying out.

    def _run(self, decide: Decide, folder: str = "", relative_to: str = "") -> int:
        """Plan, show the plan, and, confirmed, delete; returns the number of objects (to be) deleted."""
        for _ in range(_ATTEMPTS):
            history = self.history()
            decided = decide(history)
            if decided is None:
                log.info("No backup found for deletion")
                return 0
            # Listed after the backups were: what belongs to one of those is all in the listing.
            listings = [list(storage.list_versions(folder)) for storage in self.storages]
            plan = self._plan(history, decided, listings)
            show_plan(history, plan.decision)
            count = self._mark(plan, relative_to)
            if not count:
                log.info("No objects matched the deletion criteria.")
                self._sweep()
                return 0
            if not self.confirm:
                log.info(f"Dry run: objects would be deleted count={count}, Run with --confirm to execute")
                return count
            if (deleted := self._delete(plan, decide, listings)) is not None:
                log.info(f"Objects deleted successfully: count={deleted}")
                return deleted
            log.warning("Another program changed the backups meanwhile, so that there is a new plan")
        raise Refused(
            "other programs keep changing the backups; nothing was deleted", hint="run the command again later"
        )

    def _plan(self, history: History, decided: tuple[Decision, Choose], listings: list[list[ObjectInfo]]) -> Plan:
        decision, choose = decided
        objects = [
            list(choose(Objects(history, decision, storage.name), listing))
            for storage, listing in zip(self.storages, listings, strict=True)
        ]
        owners = [
            {deletion.owner_of(info.key) for info in found if info.key.startswith(BASEBACKUPS)} for found in objects
        ]
        return Plan(decision, objects, owners)

    def _mark(self, plan: Plan, relative_to: str) -> int:
        for storage, found in zip(self.storages, plan.objects, strict=True):
            for info in found:
                log.info(f"Object marked for deletion: {info.key.removeprefix(relative_to)} storage={storage.name}")
        return sum(map(len, plan.objects))

    def _delete(self, plan: Plan, decide: Decide, listings: list[list[ObjectInfo]]) -> int | None:
        """Carry the plan out and return how many objects went; None, where other backups would have to go by now.

        The deletion is announced first and everything read once more then: a backup, copy or mark that begins later
        sees the announcement, one that began earlier is seen here.
        """
        with ExitStack() as announced:
            for storage, owners in zip(self.storages, plan.owners, strict=True):
                announced.enter_context(claims.of_deletion(storage, owners))
            history = self.history()
            decided = decide(history)
            again = self._plan(history, decided or (deletion.keep_all(history), Objects.of_deleted), listings)
            if not plan.same_backups(again):
                return None
            planned = [set(found) for found in plan.objects]
            both = [[info for info in found if info in old] for found, old in zip(again.objects, planned, strict=True)]
            batches = [
                deletion.sentinels_first(history, storage.name, found, SENTINEL_SUFFIX)
                for storage, found in zip(self.storages, both, strict=True)
            ]
            for level in range(max(map(len, batches))):
                for storage, each in zip(self.storages, batches, strict=True):
                    if level < len(each):
                        storage.delete_versions(each[level])
        self._sweep()
        return sum(map(len, both))

    def _sweep(self) -> None:
        """Remove the claims of processes that died."""
        for storage in self.storages if self.confirm else ():
            claims.remove_stale(storage)


def _before(history: History, target: Record | None) -> tuple[Decision, Choose] | None:
    return None if target is None else (deletion.before(history, target), Objects.before_target)


def _latest(history: History) -> Record:
    newest = max(history.records, key=lambda record: record.time_ns, default=None)
    if newest is None:
        raise targets.NoTarget("No backups found")
    return newest


def show_plan(history: History, decision: Decision) -> None:
    """One line per backup: what happens to it and why."""
    for record in history.records:
        key = (record.storage, record.name)
        if key in decision.deleted:
            log.info(f"Backup {record.name} is to be deleted: {decision.deleted[key]}")
        elif key in decision.kept:
            log.info(f"Backup {record.name} is kept: {decision.kept[key]}")
    for record in history.running:
        log.info(f"Backup {record.name} is kept: {record.note}")


def deleter(context: Context, *, confirm: bool, by_time: bool, target_storage: str = "") -> Deleter:
    """A deleter over all storages that can be written to."""
    from walg_core.storage.registry import open_for_reading

    size = int(context.config.get("WALG_PG_WAL_SIZE")) << 20
    storages = open_for_reading(context, target_storage, writable=True) if confirm else None
    return Deleter(storages or context.read_storages(target_storage), size, confirm, by_time)
