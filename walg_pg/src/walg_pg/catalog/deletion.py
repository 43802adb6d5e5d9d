"""Which objects a deletion takes and why: pure decisions over a history and a listing (spec/postgres-backup.md 14)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from walg_core.backups.claims import is_claim
from walg_core.errors import WalgError

from walg_pg.catalog.history import History, Record, position_in
from walg_pg.names import BASEBACKUPS, WAL_FOLDER, name_from_key

if TYPE_CHECKING:
    from walg_core.storage.api import ObjectInfo


class Refused(WalgError):
    """The deletion would take something that must stay; nothing was deleted."""


@dataclass(slots=True)
class Decision:
    """What happens to each backup, with the reason; `spare` adds objects that stay though their backup goes."""

    deleted: dict[tuple[str, str], str] = field(default_factory=dict)
    kept: dict[tuple[str, str], str] = field(default_factory=dict)
    target: Record | None = None
    wal_from: dict[int, int] = field(default_factory=dict)
    """Timeline → first segment number from which all WAL stays, beside what the target keeps."""
    newer_ns: int | None = None
    """Objects without a backup that were stored after this time stay (an upgrade or reset mixed up the names)."""


def _key(record: Record) -> tuple[str, str]:
    return record.storage, record.name


def before(history: History, target: Record) -> Decision:
    """Everything before `target`, a full backup, goes; what must stay whatever its name stays with a reason."""
    if not target.full:
        raise Refused(
            f"{target.name} is a delta backup: what comes before it is needed to restore it",
            hint="use the modifier FIND_FULL to choose the full backup that it needs, or name a full backup",
        )
    decision = Decision(target=target)
    for record in history.records:
        if record.permanent:
            decision.kept[_key(record)] = "it is permanent"
        elif not history.less(record.name, target):
            decision.kept[_key(record)] = (
                "it is the target" if record == target else "it does not come before the target"
            )
        elif _newer(record, target):
            decision.kept[_key(record)] = (
                "it was made after the target though its name comes before (an upgrade or a timeline reset)"
            )
            decision.newer_ns = target.time_ns
        else:
            decision.deleted[_key(record)] = f"it comes before {target.name}"
    _keep_running(history, decision)
    _keep_bases(history, decision)
    for record in history.records:
        # From the target on every moment stays reachable, wherever the names of later backups' WAL would sort.
        if record.moment >= target.moment and _key(record) in decision.kept:
            _keep_wal_from(decision, record)
    return decision


def _newer(record: Record, target: Record) -> bool:
    return record.time_ns > target.time_ns and record.moment > target.moment


def _keep_wal_from(decision: Decision, record: Record) -> None:
    first = decision.wal_from.get(record.timeline, record.first_segment)
    decision.wal_from[record.timeline] = min(first, record.first_segment)


def _keep_running(history: History, decision: Decision) -> None:
    """What is being made or copied stays, whatever the same name meant before."""
    for record in history.running:
        decision.deleted.pop(_key(record), None)
        decision.kept[_key(record)] = record.note


def keep_all(history: History, reason: str = "nothing is to be deleted") -> Decision:
    """No backup goes."""
    decision = Decision(kept={_key(record): reason for record in history.records})
    _keep_running(history, decision)
    return decision


def refuse_everything(history: History) -> None:
    """Raises Refused when a backup is permanent or in progress."""
    permanent = [record.name for record in history.records if record.permanent]
    if permanent:
        raise Refused(
            f"there are permanent backups: {', '.join(permanent)}; nothing was deleted",
            hint="use `wal-g delete everything FORCE` if they shall go too",
        )
    for record in history.running:
        raise Refused(
            f"backup {record.name} is not finished, {record.note}; nothing was deleted",
            hint="wait until it has ended, or use `wal-g delete everything FORCE`",
        )


def needed_by_running(history: History, doomed: Iterable[Record]) -> str:
    """Why these backups cannot go: one is in progress, or a base of one that is; "" when they can."""
    names = {_key(record) for record in doomed}
    for record in history.running:
        if any(_key(each) in names for each in (record, *history.ancestors(record))):
            return f"backup {record.name} needs it and is not finished: {record.note}"
    return ""


def _keep_bases(history: History, decision: Decision) -> None:
    """No kept delta loses a backup of its chain."""
    for record in (*history.records, *history.running):
        if _key(record) in decision.kept:
            for base in history.ancestors(record):
                if decision.deleted.pop(_key(base), None) is not None:
                    decision.kept[_key(base)] = f"{record.name} builds on it"


def keep_only(history: History, keep: dict[tuple[str, str], str], window: Record | None) -> Decision:
    """Keep the given backups (with their reasons), permanent ones and their bases; delete the others.

    WAL stays from `window` on (the backup where the point-in-time window begins), and that of each kept backup.
    """
    decision = Decision(target=window)
    for record in history.records:
        if record.permanent:
            decision.kept[_key(record)] = "it is permanent"
        elif _key(record) in keep:
            decision.kept[_key(record)] = keep[_key(record)]
        else:
            decision.deleted[_key(record)] = "no rule of the policy keeps it"
        if window is not None and record.moment >= window.moment and _key(record) in decision.kept:
            _keep_wal_from(decision, record)
    _keep_running(history, decision)
    _keep_bases(history, decision)
    return decision


def of_family(history: History, record: Record, *, whole: bool, force: bool) -> Decision:
    """One backup with all deltas that need it; `whole`: with everything of its full backup. Raises Refused."""
    start = record
    if whole and not record.full:
        chain = history.ancestors(record)
        start = chain[-1] if chain else record
    family = [start, *history.dependents(start)]
    permanent = [each.name for each in family if each.permanent]
    if permanent and not force:
        raise Refused(
            f"{', '.join(permanent)} {'is' if len(permanent) == 1 else 'are'} permanent; nothing was deleted",
            hint="unmark with `wal-g backup-mark -i NAME`, or add --force",
        )
    if reason := needed_by_running(history, family):
        raise Refused(f"{start.name} cannot be deleted now, {reason}", hint="wait until that has ended")
    decision = Decision()
    _keep_running(history, decision)
    for each in family:
        why = "it was named" if each == record else f"it builds on {start.name}" if each != start else "FIND_FULL"
        decision.deleted[_key(each)] = why
    for each in history.records:
        if _key(each) not in decision.deleted:
            decision.kept[_key(each)] = "it does not need the target"
    return decision


class Objects:
    """Selects the objects of one storage that a decision deletes."""

    def __init__(self, history: History, decision: Decision, storage: str) -> None:
        self._history = history
        self._decision = decision
        self._storage = storage
        self._records = {record.name: record for record in history.records if record.storage == storage}
        self._kept = {name for where, name in decision.kept if where == storage}
        self._deleted = {name for where, name in decision.deleted if where == storage}
        self._ranges = self._protected_ranges()

    def _protected_ranges(self) -> dict[int, list[tuple[int, int]]]:
        """WAL that stays for single backups: permanent ones, and those that a rule keeps before the target."""
        out: dict[int, list[tuple[int, int]]] = {}
        for record in (*self._history.records, *self._history.running):
            if (record.storage, record.name) in self._decision.kept:
                out.setdefault(record.timeline, []).append((record.first_segment, record.last_segment))
        return out

    def before_target(self, objects: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """What comes before the decision's target and is not protected."""
        target = self._decision.target
        if target is None:
            return
        for info in objects:
            if self._history.less(info.key, target) and not self._protected(info):
                yield info

    def unprotected(self, objects: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Everything that does not belong to a kept backup."""
        for info in objects:
            if not self._protected(info):
                yield info

    def by_policy(self, objects: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Deleted backups' objects, and WAL before the window that no kept backup needs."""
        target = self._decision.target
        for info in objects:
            if info.key.startswith(BASEBACKUPS):
                if owner_of(info.key) in self._deleted:
                    yield info
            elif (
                info.key.startswith(WAL_FOLDER)
                and target is not None
                and self._history.less(info.key, target)
                and not self._protected(info)
            ):
                yield info

    def of_deleted(self, objects: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """The objects of the deleted backups only."""
        for info in objects:
            if info.key.startswith(BASEBACKUPS) and owner_of(info.key) in self._deleted:
                yield info

    def _protected(self, info: ObjectInfo) -> bool:
        if is_claim(info.key):
            return True
        if info.key.startswith(BASEBACKUPS):
            owner = owner_of(info.key)
            return owner in self._kept or (owner not in self._records and self._recent(info))
        if info.key.startswith(WAL_FOLDER):
            place = position_in(info.key[len(WAL_FOLDER) :][:24], self._history.segment_size)
            if place is None:
                return True
            timeline, segment = place
            from_here = self._decision.wal_from.get(timeline)
            if from_here is not None and segment >= from_here:
                return True
            if any(first <= segment <= last for first, last in self._ranges.get(timeline, ())):
                return True
        return self._recent(info)

    def _recent(self, info: ObjectInfo) -> bool:
        return self._decision.newer_ns is not None and info.modified_ns > self._decision.newer_ns


def owner_of(key: str) -> str:
    """The backup that an object below `basebackups_005/` belongs to."""
    return name_from_key(key[len(BASEBACKUPS) :].partition("/")[0])


def sentinels_first(
    history: History, storage: str, objects: Sequence[ObjectInfo], suffix: str
) -> list[list[ObjectInfo]]:
    """Batches in the order of deletion: sentinels, those of the longest chains first, then everything else.

    Interrupted anywhere, no listed backup lacks a part or a base.
    """
    levels: dict[int, list[ObjectInfo]] = {}
    rest: list[ObjectInfo] = []
    for info in objects:
        if info.key.endswith(suffix) and info.key.startswith(BASEBACKUPS):
            record = history.by_name.get((storage, name_from_key(info.key)))
            levels.setdefault(len(history.ancestors(record)) if record else 0, []).append(info)
        else:
            rest.append(info)
    return [levels[level] for level in sorted(levels, reverse=True)] + ([rest] if rest else [])
