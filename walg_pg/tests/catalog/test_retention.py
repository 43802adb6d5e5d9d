"""Retention and deletion over random histories (reliability figure R1): the invariants that no command may break."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from walg_core.backups import claims
from walg_core.errors import WalgError
from walg_core.storage.memory import MemoryStorage
from walg_pg.catalog.delete import Deleter
from walg_pg.catalog.mark import mark
from walg_pg.catalog.running import claim_values
from walg_pg.catalog.targets import Policy
from walg_pg.lsn import segment_name

SEGMENT = 16 << 20
DAY = 86_400
EXAMPLES = int(os.environ.get("WALG_TEST_EXAMPLES", "250"))
START = 1_700_000_000


@dataclass
class Archive:
    """A storage written as time goes by; `clock` is in Unix seconds."""

    clock: float = START
    system: int = 1
    timeline: int = 1
    segment: int = 2
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.storage = MemoryStorage(clock=lambda: self.clock)
        self.running: dict[str, str | None] = {}

    def tick(self, seconds: float) -> None:
        self.clock += seconds

    def archive_wal(self, count: int) -> None:
        for _ in range(count):
            name = segment_name(self.timeline, self.segment, SEGMENT)
            self.storage.put_bytes(f"wal_005/{name}.lz4", b"w")
            self.segment += 1

    def switch_timeline(self) -> None:
        self.timeline += 1
        self.storage.put_bytes(f"wal_005/{self.timeline:08X}.history.lz4", b"h")

    def upgrade(self) -> None:
        self.system += 1
        self.timeline, self.segment = 1, 1

    def backup(self, base: str | None, *, sentinel: bool = True) -> str | None:
        own = segment_name(self.timeline, self.segment, SEGMENT)
        name = f"base_{own}" + (f"_D_{base[5:29]}" if base else "")
        if f"basebackups_005/{name}_backup_stop_sentinel.json" in dict.fromkeys(i.key for i in self.storage.list()):
            return None
        start = self.segment * SEGMENT + 40
        self.archive_wal(1)
        prefix = f"basebackups_005/{name}/"
        self.storage.put_bytes(prefix + "tar_partitions/part_001.tar.lz4", b"p")
        self.storage.put_bytes(prefix + "tar_partitions/pg_control.tar.lz4", b"c")
        if not sentinel:
            return None
        stamp = {"start_time": stamp_of(self.clock), "start_lsn": start, "finish_lsn": start + 100}
        self.storage.put_bytes(prefix + "metadata.json", json.dumps({**stamp, "is_permanent": False}).encode())
        body = {"LSN": start, "FinishLSN": start + 100, "Version": 2, "SystemIdentifier": self.system}
        if base:
            body |= {"DeltaLSN": 1, "DeltaFrom": base, "DeltaFullName": base, "DeltaCount": 1}
        self.storage.put_bytes(f"basebackups_005/{name}_backup_stop_sentinel.json", json.dumps(body).encode())
        self.names.append(name)
        self.tick(1)
        return name

    def begin(self, base: str | None) -> None:
        """A backup that another host is still making: parts and a claim."""
        own = segment_name(self.timeline, self.segment, SEGMENT)
        name = f"base_{own}" + (f"_D_{base[5:29]}" if base else "")
        self.archive_wal(2)
        self.storage.put_bytes(f"basebackups_005/{name}/tar_partitions/part_001.tar.lz4", b"p")
        claim = {"kind": "backup", "name": name, "host": "elsewhere", "pid": 1, "since": "then"}
        needs = claim_values(base, (self.segment - 2) * SEGMENT + 40)
        self.storage.put_bytes(f"basebackups_005/walg_claim_{name}.json", json.dumps(claim | needs).encode())
        self.running[name] = base

    def deleter(self, *, confirm: bool, by_time: bool = False) -> Deleter:
        return Deleter([self.storage], SEGMENT, confirm, by_time, now_ns=int(self.clock) * 10**9)

    def keys(self) -> set[str]:
        return {info.key for info in self.storage.list()}

    def listed(self) -> dict[str, dict[str, object]]:
        out = {}
        for key in self.keys():
            if key.endswith("_backup_stop_sentinel.json"):
                name = key.removeprefix("basebackups_005/").removesuffix("_backup_stop_sentinel.json")
                out[name] = json.loads(self.storage.get(key))
        return out

    def storage_time(self, name: str) -> float:
        """When the sentinel was stored."""
        return self.storage.stat(f"basebackups_005/{name}_backup_stop_sentinel.json").modified

    def permanent(self) -> set[str]:
        return {
            key.split("/")[1]
            for key in self.keys()
            if key.endswith("/metadata.json") and json.loads(self.storage.get(key))["is_permanent"]
        }


def stamp_of(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


EVENTS = st.sampled_from(
    [
        "full",
        "full",
        "full",
        "delta",
        "delta",
        "delta",
        "delta_old",
        "wal",
        "timeline",
        "upgrade",
        "leftover",
        "running",
        "mark",
        "wal",
    ]
)


@st.composite
def archives(draw: st.DrawFn) -> Archive:
    archive = Archive()
    for what in draw(st.lists(EVENTS, min_size=8, max_size=24)):
        archive.tick(draw(st.integers(60, 2 * DAY)))
        fulls_of_system = [
            name for name, body in archive.listed().items() if body["SystemIdentifier"] == archive.system
        ]
        in_order = [name for name in archive.names if name in fulls_of_system]
        if what == "full":
            archive.backup(None)
        elif what == "delta" and in_order:
            archive.backup(in_order[-1])
        elif what == "delta_old" and in_order:
            archive.backup(draw(st.sampled_from(in_order)))
        elif what == "wal":
            archive.archive_wal(draw(st.integers(1, 4)))
        elif what == "timeline":
            archive.switch_timeline()
        elif what == "upgrade":
            archive.upgrade()
        elif what == "leftover":
            archive.backup(None, sentinel=False)
        elif what == "running" and not archive.running:
            archive.begin(draw(st.sampled_from([None, *in_order])))
        elif what == "mark" and archive.names:
            mark([archive.storage], draw(st.sampled_from(archive.names)), permanent=True, segment_size=SEGMENT)
    return archive


COMMANDS = {
    "retain": lambda d, n, m: d.retain(m, n),
    "before": lambda d, n, m: d.before("FIND_FULL", name_at(d, n)),
    "before time": lambda d, n, m: d.before("FIND_FULL", stamp_of(START + n * DAY)),
    "after": lambda d, n, m: d.retain("FIND_FULL", n, stamp_of(START + n * DAY)),
    "garbage": lambda d, n, m: d.garbage(""),
    "within": lambda d, n, m: d.policy(Policy(within_ns=n * DAY * 10**9)),
    "policy": lambda d, n, m: d.policy(Policy(daily=n, weekly=n // 2, monthly=1, yearly=1)),
}
Command = Callable[[Deleter, int, str], int]


def name_at(deleter: Deleter, number: int) -> str:
    records = deleter.history().records
    return records[number % len(records)].name if records else "base_none"


@pytest.fixture(autouse=True)
def _claims_of_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the histories is years behind."""
    monkeypatch.setattr(claims, "EXPIRY", 1 << 62)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    archive=archives(),
    command=st.sampled_from(sorted(COMMANDS)),
    count=st.integers(1, 4),
    modifier=st.sampled_from(["", "FULL", "FIND_FULL"]),
    by_time=st.booleans(),
)
def test_no_invariant_is_broken(archive: Archive, command: str, count: int, modifier: str, by_time: bool) -> None:
    before = archive.keys()
    listed = archive.listed()
    permanent = archive.permanent()
    run = COMMANDS[command]
    try:
        announced = run(archive.deleter(confirm=False, by_time=by_time), count, modifier)
    except WalgError:
        assert archive.keys() == before, "a refused command changed something"
        with pytest.raises(WalgError):
            run(archive.deleter(confirm=True, by_time=by_time), count, modifier)
        assert archive.keys() == before
        return
    assert archive.keys() == before, "a dry run deleted"
    deleted = run(archive.deleter(confirm=True, by_time=by_time), count, modifier)
    after = archive.keys()
    event(f"{command}: {'deletes backups' if archive.listed().keys() < listed.keys() else 'no backup'}")
    assert len(before - after) == deleted == announced, "the dry run and the real one differ"
    left = archive.listed()
    for name, base in archive.running.items():
        own = {
            key for key in before if f"/{name}/" in key or f"_claim_{name}." in key or f"wal_005/{name[5:29]}." in key
        }
        assert own <= after, "a backup in progress lost something"
        assert base is None or base in left, "a backup in progress lost its base"
    # The newest backup stays, permanent ones stay whole with their WAL, and no delta loses its base.
    if listed:
        newest = max(archive.names, key=lambda name: archive.storage_time(name) if name in left else 0.0)
        assert newest == archive.names[-1]
    for name in permanent:
        assert name in left
    for name, body in left.items():
        assert body.get("DeltaFrom") in (None, *left), "a delta has lost its base"
        assert {k for k in before if k.startswith(f"basebackups_005/{name}/")} <= after, "a listed backup lost a part"
        own = name[5:29]
        if f"wal_005/{own}.lz4" in before:
            assert f"wal_005/{own}.lz4" in after, "WAL that a kept backup needs is gone"
    assert {key for key in before if ".history" in key} <= after
    # WAL from the newest backup on is never touched.
    if archive.names:
        last = archive.names[-1][5:29]
        kept = {key for key in before if key.startswith("wal_005/" + last[:8]) and key[8:32] >= last}
        assert kept <= after or archive.timeline != int(last[:8], 16)
    # Repeating changes nothing more.
    if command not in ("before",):
        try:
            again = run(archive.deleter(confirm=True, by_time=by_time), count, modifier)
        except WalgError:
            again = 0
        assert again == 0 or command in ("before time", "after")
