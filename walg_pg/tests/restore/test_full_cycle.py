"""Backups of a server that is never at rest, restored in every mode and compared row by row.

A full backup, a full one that copies from it, and five deltas on that.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

MODES: list[tuple[str, ...]] = [
    (),
    ("--reverse-unpack", "--skip-redundant-tars"),
    ("--reverse-unpack",),
    ("--skip-redundant-tars",),
]
CHOSEN = MODES if os.environ.get("WALG_TEST_ALL_MODES") else MODES[:2]
PUSHES: list[tuple[str, dict[str, str]]] = [
    ("", {"WALG_USE_WAL_DELTA": "false", "WALG_UPLOAD_DISK_CONCURRENCY": "2"}),
    ("--rating-composer", {"WALG_TAR_SIZE_THRESHOLD": "4000000"}),
    ("--database-composer", {"WALG_USE_WAL_DELTA": "false"}),
    ("", {"WALG_FORCE_WAL_DELTA": "false"}),
    ("", {"WALG_USE_WAL_SUMMARIES": "true"}),
]
"""The deltas: a composer each, changed pages by scan, from WAL deltas and from WAL summaries."""
TABLES = (
    "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"
)


class Load:
    """Changes of every kind, one after the other, until it is stopped. Raises what a statement raised."""

    def __init__(self, site: Any) -> None:
        self._query = site.primary.query
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self.turns = 0

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.turns += 1
                self._turn(self.turns)
        except BaseException as error:
            self._error = error

    def _turn(self, turn: int) -> None:
        for statement in (
            f"insert into items select {turn} * 300 + i, repeat(md5(i::text), 4) from generate_series(1, 300) i",
            f"update items set t = t || 'x' where n % 97 = {turn % 97}",
            f"delete from items where n % 101 = {turn % 101}",
            "vacuum items",
            f"update spaced set v = v + 1 where n % 50 = {turn % 50}",
            f"create table comes_{turn} as select * from items limit 500",
            f"truncate comes_{turn}" if turn % 2 else f"drop table comes_{turn}",
            f"create temp table passing as select * from items limit {turn * 10}; select pg_sleep(0.05)",
            f"insert into unlogged_items select * from items limit {turn % 20}",
            "truncate growing; insert into growing select g from generate_series(1, 3000) g",
            "cluster spaced using spaced_pkey" if turn % 5 == 0 else "checkpoint",
        ):
            self._query(statement)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error:
            raise self._error


@contextmanager
def wal_elsewhere(site: Any) -> Iterator[None]:
    """The server's WAL directory behind a link."""
    site.primary.stop()
    wal, place = site.primary.data / "pg_wal", site.top / "wal-of-primary"
    shutil.move(wal, place)
    wal.symlink_to(place)
    site.primary.own(place)
    os.lchown(wal, *os.stat(site.primary.data)[4:6])
    site.primary.start()
    yield


def rows(server: Any) -> dict[str, str]:
    """Number and digest of the rows of every table that is logged."""
    found = {}
    for table in server.query(TABLES).splitlines():
        if not table.startswith("unlogged"):
            digest = f"select count(*), md5(string_agg(r::text, ',' order by r::text)) from {table} r"
            found[table] = server.query(digest)
    return found


def prepare(site: Any) -> None:
    place = site.top / "space"
    place.mkdir()
    site.primary.own(place)
    for statement in (
        f"create tablespace elsewhere location '{place}'",
        "create table spaced (n int primary key, v int) tablespace elsewhere",
        "insert into spaced select g, 0 from generate_series(1, 20000) g",
        "create unlogged table unlogged_items as select * from items",
        "create table growing (n int)",
        "insert into items select g, repeat(md5(g::text), 4) from generate_series(-30000, 0) g",
    ):
        site.primary.query(statement)


def moved(site: Any, name: str, place: Path) -> str:
    """A `--restore-spec` that puts the tablespace below `place`."""
    found = json.loads((site.archive / "basebackups_005" / f"{name}_backup_stop_sentinel.json").read_text())["Spec"]
    for oid in found["tablespaces"]:
        found[oid]["loc"] = str(place / "space")
    found["base_prefix"] = str(place / "data")
    (place / "spec.json").write_text(json.dumps(found))
    return str(place / "spec.json")


def test_a_busy_server_comes_back_in_every_mode(site: Any, tmp_path: Path) -> None:
    site.settings["WALG_USE_WAL_DELTA"] = site.primary.extra_environment["WALG_USE_WAL_DELTA"] = "true"
    if site.primary.query("show server_version_num") >= "170000":
        site.primary.query("alter system set summarize_wal = on")
    with wal_elsewhere(site):
        prepare(site)
        with Load(site) as load:
            site.push("--full")
            names = [site.push("--full", "--copy-composer")]
            for composer, settings in PUSHES:
                turns = load.turns
                names.append(site.push(*filter(None, [composer]), **settings))
                assert load.turns > turns, "nothing happened during the backup"
        site.flush()
        expected = rows(site.primary)
    assert all("_D_" in name for name in names[1:])
    for number, mode in enumerate(CHOSEN):
        top = tmp_path / f"mode{number}"
        (top / "space").mkdir(parents=True)
        spec = moved(site, names[-1], top)
        site.wal_g("backup-fetch", str(top / "data"), "LATEST", "--restore-spec", spec, *mode)
        assert not (top / "data" / "pg_wal").is_symlink()
        site.primary.own(top / "space")
        with site.recovered(f"mode{number}/data") as restored:
            assert rows(restored) == expected
            assert restored.query("select count(*) from unlogged_items") == "0"
            assert restored.query("select spcname from pg_tablespace where pg_tablespace_location(oid) <> ''")
            restored.run("pg_amcheck", "--install-missing", "--heapallindexed", "-d", "postgres")
            restored.stop()
            restored.run("pg_checksums", "--check", "-D", str(restored.data))
        shutil.rmtree(top)
