"""Real servers to back up, and `wal-g` as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from walg_core.errors import EngineError
from walg_pg.cluster import Cluster, find_binaries

Run = subprocess.CompletedProcess[str]


class Site:
    """A running server with its archive: `wal_g` runs the command against both."""

    def __init__(self, root: Path, major: int | None) -> None:
        self.root = root
        self.archive = root / "archive"
        self.wal = root / "wal"
        for directory in (self.archive, self.wal):
            directory.mkdir(parents=True)
            directory.chmod(0o777)
        settings = {
            "archive_mode": "on",
            "archive_command": f"cp %p {self.wal}/%f",
            "summarize_wal": "on",
            "fsync": "off",
            "autovacuum": "off",
        }
        if major is not None and major < 17:
            del settings["summarize_wal"]
        self.cluster = Cluster(root / "data", binaries=find_binaries(major), settings=settings)
        self.cluster.initdb("-k")
        self.cluster.start()
        self.space = root / "space"
        self.space.mkdir()
        self.cluster.own(self.space)
        self.query = self.cluster.query
        self.query("create table t as select g as id, md5(g::text) as v from generate_series(1, 20000) g")
        self.query(f"create tablespace elsewhere location '{self.space}'")
        self.query("create table u tablespace elsewhere as select * from t where id <= 3000")
        self.query("create unlogged table unlogged as select * from t where id <= 100")

    @property
    def data(self) -> Path:
        return self.cluster.data

    def environment(self, **settings: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("WALG_", "PG"))}
        return {**own, "WALG_FILE_PREFIX": str(self.archive), **self.cluster.client_environment(), **settings}

    def start_wal_g(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "walg_core", "pg", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**settings),
        )

    def wal_g(self, *arguments: str, check: bool = True, **settings: str) -> Run:
        process = self.start_wal_g(*arguments, **settings)
        output, errors = process.communicate(timeout=120)
        assert not check or process.returncode == 0, errors
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def push(self, *arguments: str, **settings: str) -> str:
        """`backup-push` of the data directory; the new backup's name."""
        before = set(self.names())
        self.wal_g("backup-push", str(self.data), *arguments, **settings)
        (name,) = set(self.names()) - before
        return name

    def names(self) -> list[str]:
        suffix = "_backup_stop_sentinel.json"
        return sorted(path.name.removesuffix(suffix) for path in (self.archive / "basebackups_005").glob("*" + suffix))

    def json(self, name: str, what: str = "sentinel") -> dict[str, Any]:
        folder = self.archive / "basebackups_005"
        path = folder / f"{name}_backup_stop_sentinel.json" if what == "sentinel" else folder / name / what
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    def tars(self, name: str) -> dict[str, bytes]:
        parts = sorted((self.archive / "basebackups_005" / name / "tar_partitions").iterdir())
        return {path.name: lz4.frame.open(path).read() for path in parts}

    def contents(self) -> list[str]:
        return [self.query(f"select count(*), md5(string_agg(v, ',' order by id)) from {table}") for table in "tu"]

    def in_backup(self) -> bool:
        """Whether any session of the server is still in backup mode (no session of ours may be)."""
        return self.query("select count(*) from pg_stat_activity where application_name = 'wal-g'") != "0"

    def restored(self, name: str, *arguments: str) -> list[str]:
        """What `contents` says of the cluster restored from `name` (tablespace and all) and recovered to its end."""
        target = self.root / f"restored-{name}"
        location = self.root / f"space-{name}"
        spec = self.json(name).get("Spec")
        if spec:
            for oid in spec["tablespaces"]:
                spec[oid]["loc"] = str(location)
            spec["base_prefix"] = str(target)
            (self.root / "spec.json").write_text(json.dumps(spec))
            arguments = ("--restore-spec", str(self.root / "spec.json"), *arguments)
        try:
            self.wal_g("backup-fetch", str(target), name, *arguments)
            (target / "recovery.signal").touch()
            target.chmod(0o700)
            settings = {"restore_command": f"cp {self.wal}/%f %p", "recovery_target": "immediate"}
            settings |= {"recovery_target_action": "promote", "fsync": "off", "archive_mode": "off"}
            with Cluster(target, binaries=self.cluster.binaries, settings=settings) as copy:
                if spec:
                    copy.own(location)
                copy.start(wait_for="promoted")
                return [
                    copy.query(f"select count(*), md5(string_agg(v, ',' order by id)) from {table}") for table in "tu"
                ]
        finally:
            shutil.rmtree(target, ignore_errors=True)
            shutil.rmtree(location, ignore_errors=True)


def _site(factory: pytest.TempPathFactory, major: int | None) -> Iterator[Site]:
    try:
        find_binaries(major)
    except EngineError as error:
        pytest.skip(f"no server to test with: {error}")
    root = factory.mktemp("site")
    for parent in (root, *root.parents):
        if parent.owner() == root.owner() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o755)
        if parent == Path("/tmp"):
            break
    site = Site(root, major)
    try:
        yield site
    finally:
        site.cluster.destroy()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """PostgreSQL 18 (or the newest found) with a tablespace and some tables."""
    yield from _site(tmp_path_factory, None)


@pytest.fixture(scope="session")
def old_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same on PostgreSQL 15."""
    yield from _site(tmp_path_factory, 15)


@pytest.fixture
def members() -> Callable[[bytes], list[tuple[bytes, bytes]]]:
    """A tar's headers and data; the archive must end with exactly two zero blocks."""

    def split(data: bytes) -> list[tuple[bytes, bytes]]:
        found, at = [], 0
        while any(data[at : at + 512]):
            header = data[at : at + 512]
            size = int(header[124:136].split(b"\0")[0], 8)
            found.append((header, data[at + 512 : at + 512 + size]))
            at += 512 + size + -size % 512
        assert data[at:] == bytes(1024)
        return found

    return split
