"""`backup-fetch`: a backup with its chain into a directory (spec/postgres-backup.md 11).

Oldest first: the full backup's files that later ones lack, then every delta over them. Nothing can be started before
the end, because `global/pg_control` is written last, after everything else has been checked and is durable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from walg_core.errors import IntegrityError, NoSpace
from walg_core.io.destination import Destination, components
from walg_core.observe import log
from walg_core.observe.progress import track

from walg_pg.restore import checks, tablespaces
from walg_pg.restore.chain import PG_CONTROL, Link, choose_files, load_chain
from walg_pg.restore.extract import Extractor, Progress
from walg_pg.restore.recovery import write_settings
from walg_pg.restore.state import State, fingerprint

if TYPE_CHECKING:
    from walg_core.context import Context
    from walg_core.storage.api import ObjectInfo, Storage

    from walg_pg.catalog.backups import Backup

REQUIRED_DIRECTORIES = (
    "pg_wal", "pg_wal/archive_status", "pg_commit_ts", "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial",
    "pg_snapshots", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase",
)  # fmt: skip
"""Directories without which a server does not start; a symlinked `pg_wal` for one is in no backup."""
_RESERVE = 64 << 20


@dataclass(slots=True)
class Request:
    """What to restore and how. `selected` decides by stored name; None: everything."""

    destination: str
    backup: Backup
    selected: Callable[[str], bool] | None = None
    selection: str = ""
    restore_spec: tablespaces.Spec | None = None
    skip_redundant: bool = False
    select_from: Callable[[Link], Callable[[str], bool] | None] | None = None
    recovery: dict[str, str] = field(default_factory=dict)
    """Recovery settings to write into the cluster, with the signal file; empty: none."""


@dataclass(slots=True)
class Plan:
    """A restore that has been thought through but not begun. Sizes in bytes."""

    request: Request
    destination: str
    chain: list[Link]
    layout: tablespaces.Layout
    partial: bool
    steps: list[tuple[Link, list[ObjectInfo]]] = field(default_factory=list)

    @property
    def download_size(self) -> int:
        """Stored bytes that are read."""
        special = [part for part in (self.newest.control_part(), self.newest.label_part()) if part]
        return sum(part.size for _, parts in self.steps for part in parts) + sum(part.size for part in special)

    @property
    def needed_space(self) -> int:
        """Bytes that the restored cluster takes, as far as the sentinels tell."""
        sentinel = self.newest.sentinel
        return sentinel.data_catalog_size or max(link.sentinel.uncompressed_size for link in self.chain)

    @property
    def newest(self) -> Link:
        return self.chain[0]


def plan(storages: Sequence[Storage], request: Request) -> Plan:
    """Read the metadata of the chain and decide everything; writes nothing. Raises WalgError."""
    chain = load_chain(storages, request.backup)
    selected = request.selected
    if request.select_from is not None:
        selected = request.select_from(chain[0])
    if selected is not None and chain[0].files is None:
        if request.select_from is not None:
            raise IntegrityError(
                f"backup {chain[0].name} has no file list: only the whole of it can be restored",
                hint="repeat the command without --restore-only",
            )
        # As the original does; the destination is empty, so more than was asked for costs space and no data.
        log.warning(f"backup {chain[0].name} has no file list: the mask is ignored, all of it is restored")
        selected = None
    choose_files(chain, selected)
    destination = os.path.realpath(request.destination)
    where = f"the tablespace spec of {chain[0].name}"
    layout = tablespaces.plan_layout(destination, chain[0].sentinel.spec, request.restore_spec, where)
    found = Plan(request, destination, chain, layout, partial=selected is not None)
    for link in reversed(chain):
        found.steps.append((link, _needed_parts(link, request)))
    return found


def _needed_parts(link: Link, request: Request) -> list[ObjectInfo]:
    """The data parts to read: of a base, and where asked for, only those that list a wanted file."""
    parts = link.data_parts()
    files = link.files
    if files is None or link.wanted is None or not files.tar_sets or (link.newest and not request.skip_redundant):
        return [] if link.wanted is not None and not link.wanted else parts
    wanted = link.wanted
    return [
        part
        for part in parts
        if (members := files.tar_sets.get(part.key.rpartition("/")[2])) is None
        or any(name in wanted for name in members)
    ]


class Restore:
    """Carries out a plan. `progress` may be watched from another thread."""

    def __init__(self, context: Context, plan_: Plan) -> None:
        self._context = context
        self._plan = plan_
        self.progress = Progress()
        config = context.config
        self._fsync = not config.get("WALG_TAR_DISABLE_FSYNC")
        self._page_size = int(config.get("WALG_PG_BLOCK_SIZE"))
        self._retries = max(0, int(config.get("WALG_DOWNLOAD_FILE_RETRIES")))
        self._workers = _workers(config.get("WALG_DOWNLOAD_CONCURRENCY"), config.is_set("WALG_DOWNLOAD_CONCURRENCY"))
        self._control: bytes | None = None
        self._root_mode_seen = False

    def run(self) -> None:
        """Restore everything; on return it is complete, checked and durable. Raises WalgError, OSError."""
        plan_ = self._plan
        tablespaces.check_locations(plan_.layout, plan_.destination) if not self._interrupted() else None
        with checks.open_destination(plan_.destination, fsync=self._fsync) as root:
            state = State(root, plan_.newest.name, self._fingerprint())
            state.open()
            if state.resumed:
                log.info(f"an interrupted restore goes on: {len(state.done)} parts are done already")
            self._check_space(root, state)
            tablespaces.prepare(plan_.layout, root, fsync=self._fsync)
            with track(plan_.needed_space or None, "restored") as self.progress.tracker:
                try:
                    for link, parts in plan_.steps:
                        self._step(root, state, link, parts)
                finally:
                    state.checkpoint()
                self._complete(root, state)

    def _interrupted(self) -> bool:
        from walg_pg.restore.state import STATE_NAME

        return os.path.lexists(os.path.join(self._plan.destination, STATE_NAME))

    def _fingerprint(self) -> str:
        plan_ = self._plan
        chain = [
            (link.name, link.backup.modified_ns, [(part.key, part.size) for part in link.parts]) for link in plan_.chain
        ]
        layout = [(each.oid, each.location) for each in plan_.layout.tablespaces]
        return fingerprint([chain, layout, plan_.request.selection, plan_.destination])

    def _check_space(self, root: Destination, state: State) -> None:
        if self._plan.partial or state.resumed:
            return
        free, needed = root.free_bytes(), self._plan.needed_space + _RESERVE
        outside = any(not each.location.startswith(root.path + "/") for each in self._plan.layout.tablespaces)
        if free < needed and not outside:
            state.remove()
            raise NoSpace(
                f"{root.path} has {free >> 20} MiB free, {self._plan.newest.name} needs about {needed >> 20} MiB",
                hint="nothing was restored; make room or choose a directory on a larger file system",
            )

    def _step(self, root: Destination, state: State, link: Link, parts: list[ObjectInfo]) -> None:
        extractor = self._extractor(root, link)
        todo = [part for part in parts if part.key not in state.done]
        if todo:
            log.debug(f"backup {link.name}: {len(todo)} of {len(link.parts)} objects")
        self._parallel(extractor, state, todo)
        if link.newest:
            label = link.label_part()
            for part in (label, link.control_part()):
                if part is not None:
                    extractor.part(part)
            # A WAL-E style backup has no special parts: the control file came with the data, and a part that an
            # earlier run finished has to give it again.
            if extractor.control is None and not link.has_special_parts:
                self._parallel(extractor, state, [part for part in parts if part not in todo])
            self._control = extractor.control
            self._root_mode_seen = extractor.root_mode_seen or bool(
                state.resumed and link.files and "/" in link.files.files
            )

    def _extractor(self, root: Destination, link: Link) -> Extractor:
        drop = frozenset(("tablespace_map",)) if self._plan.layout.moved else frozenset()
        return Extractor(
            self._context, root, link, self.progress, page_size=self._page_size, retries=self._retries, drop=drop
        )

    def _parallel(self, extractor: Extractor, state: State, parts: list[ObjectInfo]) -> None:
        """Extract the parts with the workers; the first failure stops the others and is raised."""
        if not parts:
            return
        extractor.ahead = len(parts) < (os.cpu_count() or 1)

        def one(part: ObjectInfo) -> None:
            extractor.part(part)
            state.finished(part.key)

        with ThreadPoolExecutor(min(self._workers, len(parts)), thread_name_prefix="restore") as pool:
            # Large parts first: the end is not spent waiting for one that started last.
            pending: set[Future[None]] = {pool.submit(one, part) for part in sorted(parts, key=lambda part: -part.size)}
            try:
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            except BaseException:
                self.progress.cancelled.set()
                for future in pending:
                    future.cancel()
                raise

    def _complete(self, root: Destination, state: State) -> None:
        """What must be there is there; then links, modes, durability, and the control file as the last word."""
        plan_ = self._plan
        newest = plan_.newest
        if not plan_.partial:
            for name in REQUIRED_DIRECTORIES:
                root.make_dir(components(name), None, parents=0o700)
        for name in (PG_CONTROL, "postgresql.auto.conf", "recovery.signal", "recovery.conf"):
            root.remove_leftovers(components(name))
        tablespaces.link(plan_.layout, root)
        checks.everything_there(root, newest, self.progress.skipped)
        if not plan_.partial or newest.wanted is None:
            checks.belongs(root, newest, self._control)
        if not self._root_mode_seen and root.created:
            root.make_dir((), 0o700)
        if plan_.request.recovery:
            write_settings(root, newest.sentinel.pg_version, plan_.request.recovery)
        root.finish()
        if self._control is not None:
            root.write_file(components(PG_CONTROL), self._control, 0o600)
        state.remove()


def _workers(configured: int, explicit: bool) -> int:
    """Parallel parts: as configured; by default not many more than there are processors (each holds buffers)."""
    return configured if explicit else min(configured, max(4, 2 * (os.cpu_count() or 1)))
