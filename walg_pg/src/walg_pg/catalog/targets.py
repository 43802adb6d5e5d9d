"""Which backup a deletion counts from, and the policies of retention (spec/postgres-backup.md 14)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from walg_core.backups import times
from walg_core.errors import UsageError, WalgError

from walg_pg.catalog.history import History, Record

FULL, FIND_FULL = "FULL", "FIND_FULL"
_DURATION = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class NoTarget(WalgError):
    """The backup that was named does not exist."""


def moment(text: str) -> int | None:
    """A time in nanoseconds (one without zone is UTC), None for what is a name. Raises UsageError for the future."""
    if text.startswith("base_"):
        return None
    try:
        found = times.parse(text)
    except ValueError:
        return None
    if found > time.time_ns():
        raise UsageError(f"the time {text} is in the future")
    return found


def find(history: History, name: str, *, exactly: bool = False) -> Record:
    """The backup of this name, else (unless `exactly`) the newest in order that starts with it. Raises NoTarget."""
    exact = [record for record in history.records if record.name == name]
    found = exact if exact or exactly else [record for record in history.records if record.name.startswith(name)]
    if not found or not name:
        raise NoTarget(
            f"Backup '{name}' does not exist.",
            hint="`wal-g backup-list` shows the names; a time is written like 2026-11-01T00:00:00Z",
        )
    return found[-1]


def before(history: History, modifier: str, text: str) -> Record | None:
    """The target of `delete before`; None: no backup is that new, nothing to delete. Raises NoTarget, UsageError."""
    if modifier == FULL:
        raise UsageError("the modifier FULL has no meaning for `delete before`", hint="use FIND_FULL")
    since = moment(text)
    if since is not None:
        found = next((record for record in history.records if history.time_of(record) >= since), None)
        if found is None:
            return None
    else:
        found = find(history, text)
    if modifier != FIND_FULL:
        return found
    at = history.records.index(found)
    for record in reversed(history.records[: at + 1]):
        if record.full:
            return record
    raise NoTarget(f"no full backup at or before {found.name} was not found")


def retain(history: History, modifier: str, count: int) -> Record | None:
    """The target of `delete retain`; None: there are not more backups than that. Raises UsageError."""
    newest_first = list(reversed(history.records))
    if modifier == FULL:
        newest_first = [record for record in newest_first if record.full]
    if len(newest_first) < count:
        return None
    if modifier == FIND_FULL:
        return next((record for record in newest_first[count - 1 :] if record.full), None)
    return newest_first[count - 1]


def after(history: History, modifier: str, text: str) -> Record | None:
    """The target of `--after`: the oldest backup from that time or name on (with a modifier the first full one)."""
    since = moment(text)
    matches: Callable[[Record], bool]
    if since is not None:
        matches = lambda record: history.time_of(record) >= since  # noqa: E731
    else:
        matches = lambda record: record.name.startswith(text)  # noqa: E731
    first = next((at for at, record in enumerate(history.records) if matches(record)), None)
    if first is None:
        return None
    found = history.records[first:]
    return next((record for record in found if record.full), None) if modifier else found[0]


def garbage(history: History) -> Record | None:
    """The oldest backup that is not permanent, by start time; None without one."""
    return min((record for record in history.records if not record.permanent), key=lambda r: r.moment, default=None)


def older(history: History, left: Record | None, right: Record | None) -> Record | None:
    """The earlier of two targets; the other where one is missing."""
    if left is None or right is None:
        return left or right
    return min(left, right, key=history.records.index)


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of which each keeps backups; 0 means the rule is not given. `within_ns` in nanoseconds."""

    within_ns: int = 0
    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __bool__(self) -> bool:
        return any((self.within_ns, self.daily, self.weekly, self.monthly, self.yearly))


def duration_ns(text: str) -> int:
    """`14d`, `2w`, `36h`, `1d12h` in nanoseconds. Raises UsageError."""
    if not text or _DURATION.sub("", text):
        raise UsageError(f"{text!r} is not a duration like 14d, 2w or 36h")
    return sum(int(count) * _UNITS[unit] for count, unit in _DURATION.findall(text)) * times.SECOND


def apply(history: History, policy: Policy, now_ns: int) -> tuple[dict[tuple[str, str], str], Record | None]:
    """The backups that the policy keeps, with reasons, and the one where the point-in-time window begins.

    The newest backup is always kept. The window of `within_ns` begins at the last backup before its edge, so that
    every moment of it can be reached.
    """
    by_time = sorted(history.records, key=lambda record: record.moment)
    kept: dict[tuple[str, str], str] = {}
    if not by_time:
        return kept, None

    def keep(record: Record, why: str) -> None:
        kept.setdefault((record.storage, record.name), why)

    newest = by_time[-1]
    keep(newest, "it is the newest")
    window = newest
    if policy.within_ns:
        edge = now_ns - policy.within_ns
        inside = [record for record in by_time if record.moment >= edge]
        outside = [record for record in by_time if record.moment < edge]
        for record in inside:
            keep(record, "it is inside the time to keep")
        if outside:
            keep(outside[-1], "the point-in-time window begins with it")
        window = (outside[-1:] or inside[:1] or [newest])[0]
    for record in by_time[len(by_time) - policy.last :] if policy.last else ():
        keep(record, f"it is one of the last {policy.last}")
    for rule, count, bucket in _RULES:
        for record in _newest_of_each(by_time, count(policy), bucket):
            keep(record, f"it is the newest of its {rule}")
    return kept, window


def _newest_of_each(by_time: list[Record], count: int, bucket: Callable[[datetime], object]) -> list[Record]:
    """The newest backup of each of the `count` latest buckets that have one."""
    seen: dict[object, Record] = {}
    for record in reversed(by_time):
        which = bucket(datetime.fromtimestamp(record.moment // times.SECOND, UTC))
        if which not in seen:
            if len(seen) >= count:
                break
            seen[which] = record
    return list(seen.values())


_RULES: tuple[tuple[str, Callable[[Policy], int], Callable[[datetime], object]], ...] = (
    ("day", lambda policy: policy.daily, lambda day: day.date()),
    ("week", lambda policy: policy.weekly, lambda day: day.isocalendar()[:2]),
    ("month", lambda policy: policy.monthly, lambda day: (day.year, day.month)),
    ("year", lambda policy: policy.yearly, lambda day: day.year),
)
