"""What a stream engine tells about itself, and the commands' work done with it. An engine composes these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from walg_core import hooks
from walg_core.backups import claims, deletion, gojson, selection, sentinels
from walg_core.backups.catalog import FOLDER, BackupObject, NoBackups, list_all
from walg_core.backups.deletion import Candidate
from walg_core.backups.listing import as_json, as_table, moment
from walg_core.backups.sentinels import Backup, SentinelForm
from walg_core.declarations import load
from walg_core.errors import UsageError
from walg_core.events import RestoreEvent
from walg_core.observe import log
from walg_core.observe.progress import TrackedReader, track
from walg_core.streams.commands import CommandReader, command_text, feed_command
from walg_core.streams.fetch import open_stream
from walg_core.streams.marks import CREATE as CREATE
from walg_core.streams.marks import RESTORE as RESTORE
from walg_core.streams.marks import Marks as Marks
from walg_core.streams.marks import marks_from as marks_from
from walg_core.streams.push import Pushed, backup
from walg_core.streams.splitter import Split

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import Storage


def plain_sentinel(pushed: Pushed, marks: Marks) -> dict[str, Any]:
    """The smallest sentinel: when the backup was begun, and what was said about it."""
    from walg_core.backups import times

    out: dict[str, Any] = {"StartLocalTime": times.format_local(pushed.start_ns)}
    if marks.permanent:
        out["IsPermanent"] = True
    if marks.user_data is not None:
        out["UserData"] = gojson.user_data(marks.user_data)
    return out


@dataclass(frozen=True, slots=True)
class StreamEngine:
    """A database that is dumped and restored through commands.

    `sentinel` gives the keys to store, `form` says where the common facts stand among them. `archives` are the folders
    of its logs (ending in `/`) and single objects of theirs, which `delete before` and `delete retain` sweep as well.
    `deleted` is told the backups that `delete target` has taken, or would take. `splits`: WALG_STREAM_SPLITTER_* apply.
    `prefix`: the beginning of its backups' names. `environment`: what its commands get besides our environment.
    `details`: import path of its own `(context, *, pretty, json, target) -> str` for `backup-list --detail`.
    """

    sentinel: Callable[[Pushed, Marks], dict[str, Any]] = plain_sentinel
    form: SentinelForm = field(default_factory=SentinelForm)
    archives: tuple[str, ...] = ()
    splits: bool = False
    prefix: str = "stream_"
    environment: Callable[[Context], dict[str, str]] | None = None
    deleted: Callable[[Storage, Sequence[str], bool], None] | None = None
    details: str = ""

    def additions(self, context: Context) -> dict[str, str]:
        return self.environment(context) if self.environment else {}


def push(context: Context, engine: StreamEngine, marks: Marks) -> Pushed:
    """`backup-push`: the create command's output becomes a backup."""
    text = command_text(context.config, CREATE)
    split = Split.from_config(context.config) if engine.splits else None
    pushed = backup(
        context,
        lambda: CommandReader(text, extra=engine.additions(context)),
        lambda done: engine.sentinel(done, marks),
        prefix=engine.prefix,
        split=split,
    )
    log.info(f"Backup {pushed.name}: {pushed.plain_size} bytes read, {pushed.stored_size} stored")
    return pushed


def choose(context: Context, engine: StreamEngine, name: str, user_data: str = "") -> tuple[Storage, Backup]:
    """The backup that is meant, and its storage. Raises UsageError, NoBackups, IntegrityError."""
    read = selection.by_form(engine.form)
    storage, entry = selection.select(context.read_storages(), name, user_data, read)
    return storage, sentinels.load(storage, entry, engine.form)


def fetch(context: Context, engine: StreamEngine, name: str, user_data: str = "") -> None:
    """`backup-fetch`: the backup goes into the restore command."""
    text = command_text(context.config, RESTORE)
    storage, found = choose(context, engine, name, user_data)
    size = found.document.number(engine.form.plain_size) if engine.form.plain_size else 0
    source = open_stream(context, storage, found.name, plain_size=size)
    with track(size or None, "restore") as tracker:
        count = feed_command(text, TrackedReader(source, tracker), extra=engine.additions(context))
    log.info(f"Backup {found.name} restored: {count} bytes")
    hooks.notify(context.catalog, "walg_restore_finished", event=RestoreEvent(context.engine, found.name, ""))


# Lists.


def listing(context: Context, engine: StreamEngine, *, pretty: bool, json: bool, detail: bool, target: str) -> str:
    """The text of `backup-list`; "" when there is nothing to print."""
    if detail and engine.details:
        text: str = load(engine.details)(context, pretty=pretty, json=json, target=target)
        return text
    storages = context.read_storages(target)
    entries = list_all(storages)
    if not entries and not json:
        log.info("No backups found")
        return ""
    if detail:
        named = {storage.name: storage for storage in storages}
        backups = [sentinels.load(named[entry.storage_name], entry, engine.form) for entry in entries]
        return _detailed(backups, pretty=pretty, json=json)
    return as_json(entries, pretty=pretty) + "\n" if json else as_table(entries, pretty=pretty)


def _detailed(backups: Sequence[Backup], *, pretty: bool, json: bool) -> str:
    from walg_core.backups import table, times

    if json:
        rows = [
            {
                "backup_name": each.name,
                "time": times.format_local(each.entry.modified_ns),
                "storage_name": each.entry.storage_name,
                **each.document.values,
            }
            for each in backups
        ]
        return gojson.dumps(rows, indent=4 if pretty else None).decode("utf-8", "replace") + "\n"
    cells = [
        [
            each.name,
            moment(each.entry.modified_ns, pretty=pretty),
            each.entry.storage_name,
            moment(each.start_ns, pretty=pretty),
            "true" if each.permanent else "false",
            gojson.dumps(each.user_data).decode("utf-8", "replace"),
        ]
        for each in backups
    ]
    heads = ["backup_name", "modified", "storage_name", "start_time", "permanent", "user_data"]
    if pretty:
        return table.pretty([head.replace("_", " ").capitalize() for head in heads], cells)
    return table.plain(heads, cells)


# Deletion.


def candidates(storage: Storage, engine: StreamEngine) -> list[Candidate]:
    """The backups as deletion sees them; every sentinel is read, a failure to read one is raised."""
    return [candidate(each) for each in sentinels.load_all(storage, engine.form)]


def candidate(found: Backup) -> Candidate:
    """One backup as deletion sees it."""
    full = not found.parent
    return Candidate(found.name, found.entry.order, found.start_ns, found.permanent, full, found.parent, found.base)


def delete_older(
    context: Context,
    engine: StreamEngine,
    target_of: Callable[[list[Candidate]], Candidate | None],
    *,
    confirm: bool,
) -> None:
    """`delete before` and `delete retain`: everything older than the chosen backup, in every storage."""
    log.info("retrieving permanent objects")
    held = [(storage, candidates(storage, engine)) for storage in context.read_storages()]
    target = target_of([each for _, backups in held for each in backups])
    if target is None:
        log.info("No backup found for deletion")
        return
    log.info("Start delete")
    for storage, _ in held:

        def plan(storage: Storage = storage) -> deletion.Plan:
            alive, backups = claims.live(storage), candidates(storage, engine)
            found = deletion.plan_older(storage, target, backups, scopes=(FOLDER, *engine.archives))
            return deletion.respect_claims(found, backups, alive)

        deletion.carry_out(plan, confirm=confirm)


def delete_everything(context: Context, engine: StreamEngine, *, force: bool, confirm: bool) -> None:
    """`delete everything [FORCE]`: all backups and logs of this engine's folders."""
    log.info("retrieving permanent objects")
    for storage in context.read_storages():

        def plan(storage: Storage = storage) -> deletion.Plan:
            alive, backups = claims.live(storage), candidates(storage, engine)
            found = deletion.plan_everything(storage, backups, force=force, scopes=(FOLDER, *engine.archives))
            return found if force else deletion.respect_claims(found, backups, alive)

        deletion.carry_out(plan, confirm=confirm)


def delete_target(
    context: Context, engine: StreamEngine, words: Sequence[str], user_data: str, *, confirm: bool
) -> None:
    """`delete target [FIND_FULL] NAME`: the backup and its increments, or the whole family."""
    if len(words) > 2 or (len(words) == 2 and words[0] != "FIND_FULL"):
        raise UsageError("incorrect arguments: delete target [FIND_FULL] NAME")
    family = words[:1] == ["FIND_FULL"] and (len(words) == 2 or bool(user_data))
    name = words[-1] if words and not (family and len(words) == 1) else ""
    storage, found = choose(context, engine, name, user_data)
    doomed: list[Candidate] = []

    def plan() -> deletion.Plan:
        alive, backups = claims.live(storage), candidates(storage, engine)
        target = next((each for each in backups if each.name == found.name), None)
        if target is None:
            raise NoBackups(f"backup {found.name} was deleted meanwhile")
        doomed[:] = deletion.dependants(backups, target, family=family)
        return deletion.respect_claims(deletion.plan_backups(storage, doomed), backups, alive, named=True)

    deletion.carry_out(plan, confirm=confirm)
    if engine.deleted:
        engine.deleted(storage, [each.name for each in doomed], confirm)


def delete_garbage(context: Context, engine: StreamEngine, *, confirm: bool) -> None:
    """`delete garbage`: what failed pushes left."""
    for storage in context.read_storages():

        def plan(storage: Storage = storage) -> deletion.Plan:
            alive, backups = claims.live(storage), candidates(storage, engine)
            return deletion.respect_claims(deletion.plan_garbage(storage, backups), backups, alive)

        deletion.carry_out(plan, confirm=confirm)


def depths(storage: Storage, form: SentinelForm) -> Callable[[BackupObject], int]:
    """How deep in its chain of increments a backup stands (a full one: 0), for the order of a copy's sentinels."""
    parents = {each.name: each.parent for each in sentinels.load_all(storage, form)}

    def depth(entry: BackupObject) -> int:
        count, at = 0, parents.get(entry.name, "")
        while at and count <= len(parents):
            count, at = count + 1, parents.get(at, "")
        return count

    return depth
