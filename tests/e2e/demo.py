"""The main job, told step by step on a real PostgreSQL: backup, archive, accident, point-in-time restore, proof.

Run it with `nox -s demo`. Everything happens in a temporary directory, over a private socket.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from walg_pg.cluster import Cluster

SUM = "select count(*), coalesce(sum(amount), 0) from payments"


class Story:
    """Numbers the steps, runs the commands as a user would, and shows what each took."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.number = 0
        self.began = self.last = time.monotonic()

    def step(self, text: str) -> None:
        now = time.monotonic()
        if self.number:
            print(f"   … {now - self.last:.1f} s\n", flush=True)
        self.number, self.last = self.number + 1, now
        print(f"{self.number}. {text}", flush=True)

    def wal_g(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        print(f"   $ wal-g {shlex.join(arguments)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "walg_core", "pg", *arguments],
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        for line in (done.stdout + done.stderr).strip().splitlines()[-6:]:
            print(f"     {line}", flush=True)
        if done.returncode:
            raise SystemExit(f"wal-g {arguments[0]} failed with status {done.returncode}")
        return done.stdout

    def say(self, text: str) -> None:
        print(f"   {text}", flush=True)


def main() -> None:
    """Tell the story; exits non-zero when the restored data is not what it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="payments loaded before the backup")
    parser.add_argument("--keep", action="store_true", help="leave the directory behind")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="walg-demo-"))
    home.chmod(0o755)
    try:
        tell(home, options.rows)
    finally:
        if not options.keep:
            shutil.rmtree(home, ignore_errors=True)


def tell(home: Path, rows: int) -> None:
    """The story itself, in `home`."""
    archive = home / "archive"
    archive.mkdir()
    settings = {"WALG_FILE_PREFIX": str(archive), "WALG_COMPRESSION_METHOD": "lz4", "PATH": os.environ["PATH"]}
    wal_g = f"{sys.executable} -m walg_core pg"
    source = Cluster(
        home / "data",
        settings={"archive_mode": "on", "archive_command": f"{wal_g} wal-push %p", "fsync": "off"},
        environment={**settings, "PGDATA": str(home / "data")},
    )
    story = Story({**os.environ, **settings, **source.client_environment()})
    with source:
        expected, moment = live(story, source, archive, rows)
    recover(story, home, expected, moment, settings)
    print(f"\nDone in {time.monotonic() - story.began:.1f} s: every payment up to the accident is back.", flush=True)


def live(story: Story, source: Cluster, archive: Path, rows: int) -> tuple[str, str]:
    """Load, back up, write on, then the accident. Returns the proof and the moment to go back to."""
    story.step("A PostgreSQL server that archives its WAL with wal-g")
    source.initdb()
    source.own(archive)
    source.start()
    story.say(source.query("select version()"))

    story.step(f"{rows:,} payments")
    source.query("create table payments(id bigserial primary key, amount int not null, note text)")
    source.query(
        "insert into payments(amount, note) select (random()*1000)::int, md5(i::text)"
        f" from generate_series(1, {rows}) i"
    )

    story.step("A base backup while the server runs")
    story.wal_g("backup-push", str(source.data))
    story.wal_g("backup-list")

    story.step("Business goes on after the backup")
    source.query(
        "insert into payments(amount, note) select i % 100, 'after the backup' from generate_series(1, 50000) i"
    )
    expected = source.query(SUM)
    moment = source.query("select clock_timestamp()")
    story.say(f"at {moment}: {expected.replace('|', ' payments, sum ')}")
    time.sleep(0.2)

    story.step("The accident: somebody empties the table, and nobody notices until the WAL is archived")
    source.query("delete from payments")
    wait_until_archived(source, source.query("select pg_walfile_name(pg_switch_wal())"))
    story.say("payments left: " + source.query("select count(*) from payments"))

    story.step("Disaster: the server is killed and its data directory destroyed")
    source.stop("immediate")
    shutil.rmtree(source.data)
    return expected, moment


def wait_until_archived(source: Cluster, segment: str) -> None:
    """Until the server reports `segment` as archived."""
    deadline = time.monotonic() + 60
    while source.query(f"select last_archived_wal >= '{segment}' from pg_stat_archiver") != "t":
        if source.query("select last_archived_wal is null and failed_count > 3 from pg_stat_archiver") == "t":
            raise SystemExit(f"archiving fails:\n{source.log_tail()}")
        if time.monotonic() > deadline:
            raise SystemExit(f"segment {segment} was not archived:\n{source.log_tail()}")
        time.sleep(0.1)


def recover(story: Story, home: Path, expected: str, moment: str, settings: dict[str, str]) -> None:
    """Look at the plan, fetch, recover to the moment, compare."""
    restored = home / "restored"
    wanted = ("backup-fetch", str(restored), "--target-time", moment, "--target-action", "promote")
    story.step("Three in the morning: which backup leads back to just before the accident?")
    story.wal_g(*wanted, "--dry-run")

    story.step("Fetch it into a new directory, with the settings that recover to that moment")
    story.wal_g(*wanted)

    story.step(f"Start the server: it recovers to {moment}")
    target = Cluster(restored, settings={"archive_mode": "off"}, environment={**settings, "PGDATA": str(restored)})
    with target:
        target.start(wait_for="promoted")
        found = target.query(SUM)
        story.step("The proof")
        story.say(f"before the accident: {expected}")
        story.say(f"after the restore:   {found}")
        target.stop()
    if found != expected:
        raise SystemExit("the restored table differs from what it was before the accident")


if __name__ == "__main__":
    main()
