"""The `delete` commands: read the history, decide, show the plan, delete in a safe order (spec 14)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from walg_core.errors import UsageError
from walg_core.observe import log

from walg_pg.catalog import deletion, targets
from walg_pg.catalog.backups import BASEBACKUPS, LATEST, WAL_FOLDER, find_by_user_data
from walg_pg.catalog.deletion import Decision, Objects, Refused
from walg_pg.catalog.history import History, Record, read_history
from walg_pg.sentinel import SENTINEL_SUFFIX

if TYPE_CHECKING:
    from typing import Any

    from walg_core.context import Context
    from walg_core.storage.api import ObjectInfo, Storage

Choose = Callable[[Objects, Iterable["ObjectInfo"]], Iterator["ObjectInfo"]]


@dataclass(slots=True)
class Deleter:
    """One run of `delete`. Without `confirm` nothing is changed. `now_ns` is the clock of the policies."""

    storages: Sequence[Storage]
    segment_size: int
    confirm: bool = False
    by_time: bool = False
    now_ns: int = 0

    def history(self) -> History:
        """Every backup there is. Raises StorageError, IntegrityError."""
        return read_history(self.storages, segment_size=self.segment_size, by_time=self.by_time)

    # The forms.

    def before(self, modifier: str, text: str) -> int:
        """`delete before`; returns the number of objects (to be) deleted. Raises WalgError."""
        history = self.history()
        return self._before(history, targets.before(history, modifier, text))

    def retain(self, modifier: str, count: int, after: str = "") -> int:
        """`delete retain N`, with the older of that target and the one of `--after`."""
        if count < 1:
            raise UsageError(f"the number of backups to retain must be positive, not {count}")
        history = self.history()
        target = targets.retain(history, modifier, count)
        if after:
            # Fewer backups than that: nothing may go, whatever the time bound says.
            if target is None:
                return self._before(history, None)
            bound = targets.after(history, modifier, after)
            target = targets.older(history, target, bound)
        return self._before(history, target)

    def policy(self, policy: targets.Policy) -> int:
        """`delete retain --keep-within … --daily …`: keeps what a rule keeps."""
        history = self.history()
        keep, window = targets.apply(history, policy, self.now_ns or time.time_ns())
        if window is None:
            return self._nothing()
        decision = deletion.keep_only(history, keep, window)
        log.info(f"point-in-time recovery stays possible from {window.name} on")
        return self._carry_out(history, decision, Objects.by_policy)

    def target(self, modifier: str, name: str, user_data: Any = None, *, force: bool = False) -> int:
        """`delete target`: one backup with all that depends on it, no WAL."""
        if modifier not in ("", targets.FIND_FULL):
            raise UsageError(f"`delete target` takes no modifier but {targets.FIND_FULL}, not {modifier}")
        history = self.history()
        if user_data is not None:
            name = find_by_user_data(self.storages, user_data).name
        record = self._latest(history) if name == LATEST else targets.find(history, name, exactly=True)
        decision = deletion.of_family(history, record, whole=modifier == targets.FIND_FULL, force=force)
        return self._carry_out(history, decision, Objects.of_deleted, folder=BASEBACKUPS, relative_to=BASEBACKUPS)

    def everything(self, *, force: bool) -> int:
        """`delete everything`: every object; with permanent backups only when forced."""
        history = self.history()
        permanent = [record.name for record in history.records if record.permanent]
        if permanent and not force:
            raise Refused(
                f"there are permanent backups: {', '.join(permanent)}; nothing was deleted",
                hint="use `wal-g delete everything FORCE` if they shall go too",
            )
        decision = Decision(deleted={(r.storage, r.name): "everything goes" for r in history.records})
        return self._carry_out(history, decision, lambda _objects, listing: iter(listing))

    def garbage(self, part: str, *, without_backup_check: bool = False) -> int:
        """`delete garbage [ARCHIVES|BACKUPS]`: leftovers before the oldest backup that is not permanent."""
        folder = {"": "", "ARCHIVES": WAL_FOLDER, "BACKUPS": BASEBACKUPS}.get(part)
        if folder is None:
            raise UsageError(f"`delete garbage` takes ARCHIVES or BACKUPS, not {part}")
        history = self.history()
        target = targets.garbage(history)
        if target is not None:
            return self._before(history, target, folder)
        if not without_backup_check:
            log.info("Couldn't find any non-permanent backups in storage. Not doing anything.")
            return 0
        decision = Decision(kept={(r.storage, r.name): "it is permanent" for r in history.records})
        return self._carry_out(history, decision, Objects.unprotected, folder=folder)

    # Carrying out.

    def _latest(self, history: History) -> Record:
        newest = max(history.records, key=lambda record: record.time_ns, default=None)
        if newest is None:
            raise targets.NoTarget("No backups found")
        return newest

    def _nothing(self) -> int:
        log.info("No backup found for deletion")
        return 0

    def _before(self, history: History, target: Record | None, folder: str = "") -> int:
        if target is None:
            return self._nothing()
        decision = deletion.before(history, target)
        return self._carry_out(history, decision, Objects.before_target, folder=folder)

    def _carry_out(
        self, history: History, decision: Decision, choose: Choose, *, folder: str = "", relative_to: str = ""
    ) -> int:
        show_plan(history, decision)
        batches: list[tuple[Storage, list[list[ObjectInfo]]]] = []
        count = 0
        for storage in self.storages:
            objects = Objects(history, decision, storage.name)
            found = list(choose(objects, storage.list_versions(folder)))
            for info in found:
                log.info(f"Object marked for deletion: {info.key.removeprefix(relative_to)} storage={storage.name}")
            count += len(found)
            batches.append((storage, deletion.sentinels_first(history, storage.name, found, SENTINEL_SUFFIX)))
        if not count:
            log.info("No objects matched the deletion criteria.")
        elif not self.confirm:
            log.info(f"Dry run: objects would be deleted count={count}, Run with --confirm to execute")
        else:
            for level in range(max(len(each) for _, each in batches)):
                for storage, each in batches:
                    if level < len(each):
                        storage.delete_versions(each[level])
            log.info(f"Objects deleted successfully: count={count}")
        return count


def show_plan(history: History, decision: Decision) -> None:
    """One line per backup: what happens to it and why."""
    for record in history.records:
        key = (record.storage, record.name)
        if key in decision.deleted:
            log.info(f"Backup {record.name} is to be deleted: {decision.deleted[key]}")
        elif key in decision.kept:
            log.info(f"Backup {record.name} is kept: {decision.kept[key]}")


def deleter(context: Context, *, confirm: bool, by_time: bool, target_storage: str = "") -> Deleter:
    """A deleter over all storages that can be written to."""
    from walg_core.storage.registry import open_for_reading

    size = int(context.config.get("WALG_PG_WAL_SIZE")) << 20
    storages = open_for_reading(context, target_storage, writable=True) if confirm else None
    return Deleter(storages or context.read_storages(target_storage), size, confirm, by_time)
