"""What a deletion would remove, as a plan that explains itself, and its execution (spec/stream-backups.md 10).

An engine gives its backups as `Candidate`s and the order of objects as a `Timeline`; the plan is made from listings
alone, logged line by line as the original does, and carried out only when confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from walg_core.backups import claims, times
from walg_core.backups.catalog import FOLDER, SENTINEL_SUFFIX, NoBackups, name_time, sentinel_key
from walg_core.errors import UsageError, WalgError
from walg_core.observe import log
from walg_core.storage.api import ObjectInfo, Storage

Older = Callable[[ObjectInfo], bool]
"""Whether an object is strictly older than the target of a deletion."""

BATCH = 1000
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup as deletion sees it. `order` sorts backups by age (any comparable values of one engine).

    `start_ns` is when it was begun. `parent` and `base` are names; "" and the own name for a full backup.
    """

    name: str
    order: tuple[int, ...]
    start_ns: int
    permanent: bool = False
    full: bool = True
    parent: str = ""
    base: str = ""

    @property
    def family(self) -> str:
        """The full backup at the root of its chain."""
        return self.base or self.name


@dataclass(slots=True)
class Plan:
    """`doomed`: what goes, in listing order. `spared`: what would go but for `reason`. `prefix`: cut off in the log.

    `target` is the oldest backup that stays, where the deletion has one.
    """

    storage: Storage
    doomed: list[ObjectInfo] = field(default_factory=list)
    spared: dict[str, str] = field(default_factory=dict)
    target: Candidate | None = None
    prefix: str = ""

    def of_backups(self) -> dict[str, str]:
        """The doomed objects of backups, and which backup each belongs to."""
        keys = [info.key for info in self.doomed if not claims.is_claim(info.key)]
        return {key: owner for key in keys if (owner := backup_component(key))}


def backup_component(key: str, folder: str = FOLDER) -> str:
    """The backup that an object of `folder` belongs to: its first component below, cut at `_backup`; else ""."""
    if not key.startswith(folder):
        return ""
    return key[len(folder) :].partition("/")[0].partition("_backup")[0]


def object_time(info: ObjectInfo) -> int:
    """The time in the object's path, else its modification time in whole seconds; both UTC, in nanoseconds."""
    stamp = name_time(info.key)
    return info.modified_ns // times.SECOND * times.SECOND if stamp is None else stamp


def older_than(target: Candidate) -> Older:
    """Older by the time in names, for what has none by its modification time, than the target's beginning.

    So logs that were archived while the target was made stay: a restore of it needs them.
    """
    stamp = name_time(target.name)
    limit = target.start_ns // times.SECOND * times.SECOND if stamp is None else stamp
    return lambda info: object_time(info) < limit


# Choosing the target.

_MODIFIERS = ("FULL", "FIND_FULL")


def _newest_first(backups: Iterable[Candidate]) -> list[Candidate]:
    return sorted(backups, key=lambda backup: backup.order, reverse=True)


def parse_moment(text: str, now_ns: int | None = None) -> int | None:
    """A whole RFC 3339 time with its zone; None for anything else, which is then a name. UsageError in the future."""
    try:
        moment = times.parse(text)
    except ValueError:
        return None
    if not times.has_zone(text):
        return None
    if moment > (times.now() if now_ns is None else now_ns):
        raise UsageError("cannot delete before future date")
    return moment


def before_arguments(words: Sequence[str]) -> tuple[str, str]:
    """Modifier and name or time of `delete before`. Raises UsageError."""
    if len(words) == 1:
        return "", words[0]
    if len(words) != 2:
        raise UsageError("delete before takes a name or time, after an optional FIND_FULL")
    if words[0] == "FULL":
        raise UsageError("unsupported modifier for delete before command: FULL", hint="use FIND_FULL")
    if words[0] != "FIND_FULL":
        raise UsageError(f"unknown modifier '{words[0]}': expected FIND_FULL")
    return words[0], words[1]


def retain_arguments(words: Sequence[str]) -> tuple[str, int]:
    """Modifier and count of `delete retain`. Raises UsageError."""
    if len(words) not in (1, 2):
        raise UsageError("delete retain takes a number of backups, after an optional FULL or FIND_FULL")
    modifier = words[0] if len(words) == 2 else ""
    if modifier not in ("", *_MODIFIERS):
        raise UsageError(f"unknown modifier '{modifier}': expected FULL or FIND_FULL")
    try:
        count = int(words[-1])
    except ValueError:
        raise UsageError(f"expected to get a number as retention count, but got: '{words[-1]}'") from None
    if count < 1:
        raise UsageError("cannot retain less than one backup. Check out delete everything")
    return modifier, count


def target_before(backups: Iterable[Candidate], modifier: str, text: str) -> Candidate | None:
    """The backup before which everything goes; None when no backup is young enough for a time. NoBackups for a name."""
    ordered = _newest_first(backups)
    moment = parse_moment(text)
    first = next((backup for backup in reversed(ordered) if moment is not None and backup.start_ns >= moment), None)
    if moment is not None and first is None:
        return None
    met = False
    for backup in ordered:
        met = met or (backup is first if first else (backup.name + SENTINEL_SUFFIX).startswith(text))
        if met and (backup.full or modifier != "FIND_FULL"):
            return backup
    raise NoBackups(f"not found: no backup's name begins with '{text}'")


def target_retain(backups: Iterable[Candidate], modifier: str, count: int) -> Candidate | None:
    """The oldest backup that stays; None when there are fewer than `count`."""
    seen = 0
    for backup in _newest_first(backups):
        if modifier != "FULL" or backup.full:
            seen += 1
        if seen >= count and (backup.full or not modifier):
            return backup
    return None


def target_retain_after(backups: Sequence[Candidate], modifier: str, count: int, after: str) -> Candidate | None:
    """The older of: `target_retain`, and the first backup at or after `after` (a time, or the beginning of a name)."""
    retained = target_retain(backups, modifier, count)
    moment = parse_moment(after)
    later = None
    for backup in reversed(_newest_first(backups)):
        fits = backup.start_ns >= moment if moment is not None else backup.name.startswith(after)
        later_enough = fits or later is not None
        if later_enough and (backup.full or not modifier):
            later = backup
            break
    found = [backup for backup in (retained, later) if backup]
    return min(found, key=lambda backup: backup.order) if found else None


def dependants(backups: Sequence[Candidate], target: Candidate, *, family: bool) -> list[Candidate]:
    """The target and every increment on it; with `family` the target's full backup and all increments of that."""
    if family:
        return [backup for backup in backups if backup.family == target.family]
    names = {target.name}
    grown = True
    while grown:
        more = {backup.name for backup in backups if backup.parent in names} - names
        names |= more
        grown = bool(more)
    return [backup for backup in backups if backup.name in names]


def _ancestors(backups: Sequence[Candidate], names: Iterable[str]) -> dict[str, str]:
    """What the named backups build on, each with the name of the one that builds on it."""
    parents = {backup.name: backup.parent for backup in backups}
    found: dict[str, str] = {}
    for name in names:
        while (parent := parents.get(name, "")) and parent not in found:
            found[parent] = name
            name = parent
    return found


# Plans.


def _objects(storage: Storage, scope: str) -> Iterable[ObjectInfo]:
    """Everything below a folder (ending in `/`), or the single object of that key where it exists."""
    if scope.endswith("/") or not scope:
        return storage.list_versions(scope)
    return [storage.stat(scope)] if storage.exists(scope) else []


def plan_older(
    storage: Storage,
    target: Candidate,
    backups: Sequence[Candidate],
    *,
    scopes: Sequence[str],
    older: Older | None = None,
    protected: Callable[[ObjectInfo], str] | None = None,
) -> Plan:
    """Everything below `scopes` that is older than `target`, neither permanent nor `protected` (gives a reason).

    What a backup that stays builds on stays as well, however old: chains may overlap.

    Raises WalgError when the target is an increment: what it builds on would go.
    """
    if not target.full:
        raise WalgError(
            f"{target.name} is incremental and it's predecessors cannot be deleted. Consider FIND_FULL option."
        )
    is_older = older or older_than(target)
    permanent = {backup.name for backup in backups if backup.permanent}
    kept = {backup.name for backup in backups if backup.order >= target.order}
    needed = _ancestors(backups, kept | permanent)
    plan = Plan(storage, target=target)
    for scope in scopes:
        for info in _objects(storage, scope):
            owner = backup_component(info.key)
            if owner in kept or not is_older(info):
                continue
            if owner in permanent:
                plan.spared[info.key] = f"backup {owner} is permanent"
            elif owner in needed:
                plan.spared[info.key] = f"backup {needed[owner]} builds on {owner}"
            elif protected and (reason := protected(info)):
                plan.spared[info.key] = reason
            else:
                plan.doomed.append(info)
    return plan


def plan_everything(storage: Storage, backups: Sequence[Candidate], *, force: bool, scopes: Sequence[str]) -> Plan:
    """All objects below `scopes`. Raises WalgError when permanent backups are among them and `force` is not given."""
    permanent = [backup.name for backup in backups if backup.permanent]
    if permanent and not force:
        raise WalgError(f"Found permanent backups=[{' '.join(permanent)}]", hint="add FORCE to delete them as well")
    plan = Plan(storage)
    for scope in scopes:
        plan.doomed.extend(_objects(storage, scope))
    return plan


def plan_backups(storage: Storage, doomed: Sequence[Candidate], folder: str = FOLDER) -> Plan:
    """The objects of these backups. Raises WalgError when one is permanent (the original deletes it)."""
    for backup in doomed:
        if backup.permanent:
            raise WalgError(
                f"Unable to delete permanent backup {backup.name}",
                hint="take the mark away first: `wal-g backup-mark -i`, where the engine has it",
            )
    names = {backup.name for backup in doomed}
    plan = Plan(storage, prefix=folder)
    plan.doomed = [info for info in storage.list_versions(folder) if backup_component(info.key, folder) in names]
    return plan


def plan_garbage(storage: Storage, backups: Sequence[Candidate], folder: str = FOLDER) -> Plan:
    """What failed pushes left: folders below `folder` without a backup. `respect_claims` spares running ones."""
    names = {backup.name for backup in backups}
    plan = Plan(storage, prefix=folder)
    for prefix in storage.list_dirs(folder):
        if backup_component(prefix, folder) not in names:
            plan.doomed.extend(storage.list_versions(prefix))
    plan.doomed.extend(info for info in storage.list_dir(folder) if claims.is_claim(info.key, folder))
    return plan


def respect_claims(
    plan: Plan,
    backups: Sequence[Candidate],
    alive: Sequence[claims.Claim],
    folder: str = FOLDER,
    *,
    named: bool = False,
) -> Plan:
    """Spare what backups in progress consist of and build on.

    `alive`: all claims (`claims.live`), read before the backups: one that ends in between is seen at least once.
    `named`: the user chose what goes. Raises WalgError then, when a backup in progress builds on it.
    """
    known = {backup.name: backup for backup in backups}
    reasons: dict[str, str] = {}
    for claim in alive:
        if claim.kind == claims.BACKUP:
            reasons[claim.name] = f"backup {claim.name} is {claim}"
            log.info(f"Backup {claim.name} is kept: it is {claim}")
        base = known.get(claim.base)
        while base and base.name not in reasons:
            reasons[base.name] = f"backup {claim.name}, {claim}, builds on {base.name}"
            base = known.get(base.parent)
    held = {claim.key: f"it is {claim}" for claim in alive}
    doomed, plan.doomed = plan.doomed, []
    for info in doomed:
        owner = backup_component(info.key, folder)
        if owner in reasons and named:
            raise WalgError(f"nothing was deleted: {reasons[owner]}", hint="wait until it has ended")
        if owner and owner not in known and owner not in reasons and not claims.is_claim(info.key, folder):
            # The original writes no claim: its backup may have ended after the backups were listed.
            finished = plan.storage.exists(sentinel_key(owner, folder))
            reasons[owner] = f"backup {owner} has just been finished" if finished else ""
        if reason := held.get(info.key) or reasons.get(owner):
            plan.spared[info.key] = reason
        else:
            plan.doomed.append(info)
    return plan


# Carrying out.


def carry_out(make: Callable[[], Plan], *, confirm: bool) -> int:
    """Log every doomed object of the plan and, confirmed, delete them; returns how many.

    The plan is made once more after the deletion was announced: a backup, mark or copy that begins later sees the
    announcement, one that began earlier is seen by the second plan. Where that takes other backups than the first, all
    begins anew. Raises StorageError, what `make` raises, and WalgError when the archive never comes to rest.
    """
    for _ in range(_ATTEMPTS):
        plan = make()
        _report(plan)
        count = len(plan.doomed)
        if not count:
            log.info("No objects matched the deletion criteria.")
            return 0
        if not confirm:
            log.info(f"Dry run: objects would be deleted count={count}, Run with --confirm to execute")
            return count
        owners = plan.of_backups()
        with claims.of_deletion(plan.storage, set(owners.values())):
            again = make()
            if again.of_backups() == owners:
                still = {info.key for info in again.doomed}
                doomed = [info for info in plan.doomed if info.key in still]
                _delete(plan.storage, doomed)
                log.info(f"Objects deleted successfully: count={len(doomed)}")
                return len(doomed)
        log.info("Backups have come, gone or been marked meanwhile: what is to be deleted is looked for again")
    raise WalgError(
        "nothing was deleted: backups come and go faster than they can be looked at",
        hint="run the command again when fewer others are at work",
    )


def _report(plan: Plan) -> None:
    log.info("Evaluating objects for deletion...")
    for key, reason in plan.spared.items():
        log.debug(f"{key} stays: {reason}")
    name = plan.storage.name
    for info in plan.doomed:
        log.info(f"Object marked for deletion: {info.key.removeprefix(plan.prefix)} storage={name}")


def _delete(storage: Storage, doomed: Sequence[ObjectInfo]) -> None:
    """Sentinels first, so that a deletion that breaks off leaves none without data; an increment's before its base's.

    Increments are younger than what they build on, and names tell the time.
    """
    heads = [info for info in doomed if info.key.endswith(SENTINEL_SUFFIX)]
    heads.sort(key=lambda info: info.key, reverse=True)
    ordered = [*heads, *(info for info in doomed if not info.key.endswith(SENTINEL_SUFFIX))]
    for at in range(0, len(ordered), BATCH):
        storage.delete_versions(ordered[at : at + BATCH])
