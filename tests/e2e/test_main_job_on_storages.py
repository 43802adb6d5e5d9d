"""PostgreSQL's main job on every storage: full backup, archiving, an increment, an accident, point-in-time recovery.

Each storage is its server or emulator (`walg_storage_X.testing.emulator()`); a case whose server is not installed here
is skipped and says why.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from walg_core.errors import EngineError
from walg_pg.cluster import Cluster, find_binaries

pytestmark = pytest.mark.slow

NOBODY = 65534
KINDS = ("file", "s3", "gcs", "azure", "swift", "ssh", "oss")
WAL_G = [sys.executable, "-m", "walg_core", "pg"]
PROOF = "select count(*), sum(id), md5(string_agg(id || note, ',' order by id)) from payments"


@contextlib.contextmanager
def file_storage(home: Path) -> Iterator[dict[str, str]]:
    archive = home / "archive"
    archive.mkdir()
    archive.chmod(0o777)
    yield {"WALG_FILE_PREFIX": str(archive)}


@contextlib.contextmanager
def emulated(kind: str) -> Iterator[dict[str, str]]:
    """The emulator that a storage's distribution brings, as settings."""
    try:
        module = importlib.import_module(f"walg_storage_{kind}.testing")
    except ImportError as error:
        pytest.skip(f"no emulator for {kind}: {error}")
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(module.emulator())
        except ImportError as error:
            pytest.skip(f"the emulator for {kind} is not installed: {error}")
        given = running.settings() if callable(getattr(running, "settings", None)) else running
        given = given if isinstance(given, Mapping) else given.settings
        yield {str(name): str(value) for name, value in given.items()}


@contextlib.contextmanager
def storage(kind: str, home: Path) -> Iterator[dict[str, str]]:
    """The settings of a storage that works, of this kind."""
    if kind == "file":
        chosen: contextlib.AbstractContextManager[dict[str, str]] = file_storage(home)
    else:
        chosen = emulated(kind)
    with chosen as settings:
        yield settings


class Job:
    """One run: a source server that archives to the storage, and what is expected of its copy."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        self.home = home
        self.settings = {**settings, "WALG_COMPRESSION_METHOD": "lz4", "WALG_DELTA_MAX_STEPS": "2"}
        command = " ".join(WAL_G)
        self.source = Cluster(
            home / "data",
            settings={"archive_mode": "on", "archive_command": f"{command} wal-push %p", "fsync": "off"},
            environment={**self.settings, "PGDATA": str(home / "data")},
        )

    def wal_g(self, *arguments: str) -> str:
        done = subprocess.run(
            [*WAL_G, *arguments],
            env={**os.environ, **self.settings, **self.source.client_environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"wal-g {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def insert(self, note: str, count: int) -> None:
        self.source.query(
            f"insert into payments(note) select '{note}' || md5(i::text) from generate_series(1, {count}) i"
        )

    def live(self) -> tuple[str, str]:
        """Backups, business, the accident. The proof, and the moment to go back to."""
        self.source.query("create table payments(id bigserial primary key, note text not null)")
        self.insert("full", 50_000)
        self.wal_g("backup-push", str(self.source.data), "--full")
        self.insert("between", 20_000)
        self.wal_g("backup-push", str(self.source.data))
        self.insert("after", 20_000)
        expected = self.source.query(PROOF)
        moment = self.source.query("select clock_timestamp()")
        time.sleep(0.2)
        self.source.query("delete from payments")
        self.wait_until_archived(self.source.query("select pg_walfile_name(pg_switch_wal())"))
        return expected, moment

    def wait_until_archived(self, segment: str) -> None:
        deadline = time.monotonic() + 120
        while self.source.query(f"select last_archived_wal >= '{segment}' from pg_stat_archiver") != "t":
            assert time.monotonic() < deadline, f"{segment} was not archived: {self.source.log_tail()}"
            time.sleep(0.1)

    def recover(self, moment: str) -> str:
        """Fetch into a new directory and recover to the moment; what the copy answers."""
        restored = self.home / "restored"
        self.wal_g("backup-fetch", str(restored), "LATEST")
        target = Cluster(
            restored,
            settings={
                "restore_command": f'{" ".join(WAL_G)} wal-fetch "%f" "%p"',
                "recovery_target_time": moment,
                "recovery_target_action": "promote",
                "archive_mode": "off",
                "fsync": "off",
            },
            environment={**self.settings, "PGDATA": str(restored)},
        )
        (restored / "recovery.signal").touch()
        with target:
            target.start(wait_for="promoted")
            found = target.query(PROOF)
            target.stop()
        return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory that the server's user may enter."""
    for directory in (tmp_path, *tmp_path.parents):
        if os.getuid() == 0 and directory.stat().st_uid == 0 and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o111)
    return tmp_path


def readable(settings: dict[str, str], home: Path) -> dict[str, str]:
    """The settings with key files that the server's user may read, whose archiver needs them."""
    found = dict(settings)
    for name in ("SSH_PRIVATE_KEY_PATH", "SSH_KNOWN_HOSTS"):
        if name in found:
            copy = home / name.lower()
            shutil.copyfile(found[name], copy)
            copy.chmod(0o600)
            if os.getuid() == 0:
                os.chown(copy, NOBODY, NOBODY)
            found[name] = str(copy)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_main_job(kind: str, home: Path) -> None:
    try:
        find_binaries()
    except EngineError as error:
        pytest.skip(str(error))
    with storage(kind, home) as given:
        settings = readable(given, home)
        job = Job(home, settings)
        with job.source:
            job.source.initdb()
            job.source.start()
            expected, moment = job.live()
            job.source.stop("immediate")
            shutil.rmtree(job.source.data)
        backups = job.wal_g("backup-list")
        assert backups.count("base_") >= 2, backups
        assert "_D_" in backups, f"no increment: {backups}"
        assert job.recover(moment) == expected
        job.wal_g("delete", "everything", "FORCE", "--confirm")
        assert "obj" not in job.wal_g("st", "ls", "-r")
