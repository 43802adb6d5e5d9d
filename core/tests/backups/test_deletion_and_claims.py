"""Deletion leaves alone what backups in progress consist of and build on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from walg_core.backups import claims, deletion, retention
from walg_core.backups.deletion import Candidate
from walg_core.errors import WalgError
from walg_core.storage.memory import MemoryStorage

NAMES = ("stream_20240101T000000Z", "stream_20240102T000000Z", "stream_20240103T000000Z")
RUNNING = "stream_20240104T000000Z"
LEFTOVER = "stream_20231231T000000Z"


def candidate(number: int, parent: str = "") -> Candidate:
    return Candidate(NAMES[number], (number,), number, full=not parent, parent=parent)


BACKUPS = [candidate(0), candidate(1, NAMES[0]), candidate(2)]


@contextmanager
def archive(base: str = "", *, running: bool = True) -> Iterator[MemoryStorage]:
    """Three backups, a leftover, and one that is being made (`running`), perhaps as an increment on `base`."""
    storage = MemoryStorage()
    for name in NAMES:
        storage.put_bytes(f"basebackups_005/{name}/stream.lz4", b"x")
        storage.put_bytes(f"basebackups_005/{name}_backup_stop_sentinel.json", b"{}")
    for name in (LEFTOVER, RUNNING):
        storage.put_bytes(f"basebackups_005/{name}/stream.lz4", b"x")
    with ExitStack() as stack:
        if running:
            stack.enter_context(claims.of_backup(storage, RUNNING, {"base": base}))
        yield storage


def kept_by(storage: MemoryStorage, plan: deletion.Plan, *, named: bool = False) -> set[str]:
    """The backups of which something is left."""
    found = deletion.respect_claims(plan, BACKUPS, claims.live(storage), named=named)
    deletion.carry_out(lambda: found, confirm=True)
    return {prefix.split("/")[1] for prefix in storage.list_dirs("basebackups_005/")}


def test_garbage() -> None:
    with archive() as storage:
        assert kept_by(storage, deletion.plan_garbage(storage, BACKUPS)) == {*NAMES, RUNNING}
        assert claims.live(storage), "the claim itself stays as well"
    with archive(running=False) as storage:
        assert kept_by(storage, deletion.plan_garbage(storage, BACKUPS)) == {*NAMES}


def test_garbage_that_was_finished_after_the_backups_were_listed() -> None:
    with archive(running=False) as storage:
        plan = deletion.plan_garbage(storage, BACKUPS)
        storage.put_bytes(f"basebackups_005/{RUNNING}_backup_stop_sentinel.json", b"{}")
        assert kept_by(storage, plan) == {*NAMES, RUNNING}


def test_the_chain_below_an_increment_in_progress() -> None:
    with archive(NAMES[1]) as storage:
        plan = deletion.plan_older(storage, BACKUPS[2], BACKUPS, scopes=("basebackups_005/",))
        assert kept_by(storage, plan) == {*NAMES, RUNNING}
        named = deletion.plan_backups(storage, BACKUPS[:2])
        with pytest.raises(WalgError, match=f"{RUNNING}, in progress on .* builds on {NAMES[0]}"):
            deletion.respect_claims(named, BACKUPS, claims.live(storage), named=True)
    with archive() as storage:
        plan = deletion.plan_older(storage, BACKUPS[2], BACKUPS, scopes=("basebackups_005/",))
        assert kept_by(storage, plan) == {NAMES[2], RUNNING}
        assert kept_by(storage, deletion.plan_backups(storage, BACKUPS[2:]), named=True) == {RUNNING}


def test_everything_but_what_is_in_progress() -> None:
    with archive(NAMES[1]) as storage:
        plan = deletion.plan_everything(storage, BACKUPS, force=False, scopes=("basebackups_005/",))
        assert kept_by(storage, plan) == {*NAMES[:2], RUNNING}


def test_purging() -> None:
    with archive() as storage:
        retention.purge(storage, lambda: BACKUPS, count=1, after_ns=None, garbage=True, confirm=True)
        assert {prefix.split("/")[1] for prefix in storage.list_dirs("basebackups_005/")} == {NAMES[2], RUNNING}
