"""Golden archives, and wal-g run in this process or as a command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from walg_core.cli.session import Session
from walg_core.context import Context
from walg_core.errors import EngineError
from walg_pg.cluster import Cluster, find_binaries

WalG = Callable[..., "subprocess.CompletedProcess[str]"]
GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"


@pytest.fixture
def context_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Context]]:
    """A context over a file storage, with further settings."""
    made: list[Context] = []

    def make(archive: Path, **settings: str) -> Context:
        for name in [name for name in os.environ if name.startswith(("WALG_", "WALE_", "PG"))]:
            monkeypatch.delenv(name)
        for name, value in {"WALG_FILE_PREFIX": str(archive), **settings}.items():
            monkeypatch.setenv(name, value)
        made.append(Session(["backup-list"], "pg").start())
        return made[-1]

    yield make
    for context in made:
        context.close()


@pytest.fixture
def wal_g() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `wal-g` as a user would; `check=False` to look at a failure."""

    def run(*arguments: str, check: bool = True, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("WALG_", "PG"))}
        done = subprocess.run(
            [sys.executable, "-m", "walg_core", "pg", *arguments],
            env={**environment, "TZ": "UTC", **settings},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"wal-g {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done

    return run


@pytest.fixture(params=[18, 15])
def binaries(request: pytest.FixtureRequest) -> Path:
    try:
        return find_binaries(request.param)
    except EngineError as error:
        pytest.skip(str(error))


class Site:
    """A primary that archives by `wal-push`; `settings` are those of every `wal-g`."""

    def __init__(self, top: Path, binaries: Path, wal_g: WalG) -> None:
        self.top, self.binaries, self.run = top, binaries, wal_g
        self.archive = top / "archive"
        self.archive.mkdir()
        self.settings = {
            "WALG_FILE_PREFIX": str(self.archive),
            "WALG_COMPRESSION_METHOD": "zstd",
            "WALG_DELTA_MAX_STEPS": "6",
        }
        self.primary = self.cluster("primary", archive_mode="on", archive_command=f"{self.program} wal-push %p")
        self.primary.initdb("--data-checksums")
        self.primary.own(self.archive)
        self.primary.start()
        self.primary.query("create table items(n int, t text)")

    program = f"{sys.executable} -m walg_core pg"

    def cluster(self, name: str, **settings: str) -> Cluster:
        data = self.top / name
        defaults = {"fsync": "off", "shared_buffers": "16MB", "max_wal_size": "64MB", "archive_mode": "off"}
        environment = {**self.settings, "PGDATA": str(data)}
        return Cluster(data, binaries=self.binaries, settings={**defaults, **settings}, environment=environment)

    def wal_g(self, *arguments: str, **settings: str) -> str:
        done = self.run(*arguments, **{**self.settings, **self.primary.client_environment(), **settings})
        self.primary.own(self.archive)
        return done.stdout

    def push(self, *arguments: str, **settings: str) -> str:
        """`backup-push` of the data directory; the new backup's name."""
        before = self.names()
        self.wal_g("backup-push", str(self.primary.data), *arguments, **settings)
        (name,) = self.names() - before
        return name

    def names(self) -> set[str]:
        suffix = "_backup_stop_sentinel.json"
        return {path.name.removesuffix(suffix) for path in (self.archive / "basebackups_005").glob("*" + suffix)}

    def work(self, number: int) -> None:
        first = number * 10000
        for statement in (
            f"insert into items select i, md5(i::text) from generate_series({first}, {first + 4999}) i",
            f"update items set t = t || '{number}' where n % {number + 7} = 0",
            f"delete from items where n % {number + 31} = 3",
            "vacuum items",
            f"create table extra{number} as select 1 a",
        ):
            self.primary.query(statement)

    def flush(self) -> None:
        self.primary.query("select pg_logical_emit_message(true, 'walg', 'there is something to switch')")
        segment = self.primary.query("select pg_walfile_name(pg_switch_wal())")
        deadline = time.monotonic() + 60
        while self.primary.query(f"select last_archived_wal >= '{segment}' from pg_stat_archiver") != "t":
            assert time.monotonic() < deadline, self.primary.log_tail()
            time.sleep(0.05)

    def recovered(self, name: str) -> Cluster:
        restored = self.cluster(name, restore_command=f'{self.program} wal-fetch "%f" "%p"')
        (self.top / name / "recovery.signal").touch()
        restored.start(wait_for="promoted")
        return restored


@pytest.fixture
def site(tmp_path: Path, binaries: Path, wal_g: WalG) -> Iterator[Site]:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    made = Site(tmp_path, binaries, wal_g)
    try:
        yield made
    finally:
        made.primary.destroy()
