"""A burst of ready segments, and the recovery of as many, one command after the other as PostgreSQL calls them.

Processor time and memory are those of the commands; what works ahead of them (the daemon, wal-push-ahead, wal-prefetch)
is in the time only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Contestant, compete, report
from postgres_wal import stopped_cluster
from walg_pg.lsn import segment_name

SIZE = 16 << 20
FIRST = 0x100
SCRIPTS = Path(sys.executable).parent

# What PostgreSQL's archiver does: in order, whatever is still ready, the command through the shell.
ARCHIVER = """
import os, subprocess, sys
status, names, command = sys.argv[1], sys.argv[2].split(), sys.argv[3]
for name in names:
    if os.path.exists(f"{status}/{name}.ready"):
        words = command.replace("%f", name).replace("%p", f"{os.path.dirname(status)}/{name}")
        subprocess.run(["/bin/sh", "-c", "exec " + words], check=True)
        os.rename(f"{status}/{name}.ready", f"{status}/{name}.done")
"""
# What its recovery does: asks for one segment, replays it (here: the time that is given), asks for the next.
RECOVERY = """
import os, subprocess, sys, time
target, names, command, replay = sys.argv[1], sys.argv[2].split(), sys.argv[3], float(sys.argv[4])
for name in names:
    if os.path.exists(target):
        os.unlink(target)
    subprocess.run(["/bin/sh", "-c", "exec " + command.replace("%f", name).replace("%p", target)], check=True)
    assert os.path.getsize(target) == 16 << 20
    time.sleep(replay)
"""


def main() -> None:
    """Make a cluster with real WAL, multiply its segments, then let each contestant archive and fetch all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--replay", type=float, default=0.05, help="seconds that replaying one segment takes")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="walg-bench-"))
    home.chmod(0o755)
    try:
        run(home, options)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run(home: Path, options: argparse.Namespace) -> None:
    """All comparisons in `home`."""
    with stopped_cluster(home) as rival:
        names = multiply(home / "data" / "pg_wal", options.segments)
    (home / "archive").mkdir()
    with Daemon(home) as daemon:
        push(home, options, names, rival, daemon)
        fetch(home, options, names, rival, daemon)


def multiply(wal: Path, count: int) -> list[str]:
    """`count` segments in a row: copies of the real ones, each with the first page's address that its name says."""
    real = sorted(path for path in wal.iterdir() if len(path.name) == 24)[1:6]
    names = [segment_name(1, FIRST + number, SIZE) for number in range(count)]
    for number, name in enumerate(names):
        body = bytearray(real[number % len(real)].read_bytes())
        body[8:16] = ((FIRST + number) * SIZE).to_bytes(8, "little")
        (wal / name).write_bytes(body)
    return names


def settings(home: Path) -> dict[str, str]:
    """wal-g's settings: a local archive, lz4, all defaults."""
    return {"WALG_FILE_PREFIX": str(home / "archive"), "PGDATA": str(home / "data"), "WALG_LOG_LEVEL": "ERROR"}


class Daemon:
    """A daemon for the time of the benchmark."""

    def __init__(self, home: Path) -> None:
        self.socket = home / "s"
        environment = {**os.environ, **settings(home)}
        self._process = subprocess.Popen([str(SCRIPTS / "wal-g-pg"), "daemon", str(self.socket)], env=environment)

    def __enter__(self) -> str:
        while not self.socket.exists():
            time.sleep(0.05)
        return f"{SCRIPTS}/walg-daemon-client {self.socket}"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def push(home: Path, options: argparse.Namespace, names: list[str], rival: list[str], daemon: str) -> None:
    """The burst, in each of the ways to archive it."""
    status = home / "data" / "pg_wal" / "archive_status"

    def prepare() -> None:
        shutil.rmtree(home / "archive" / "wal_005", ignore_errors=True)
        shutil.rmtree(status.parent / "walg_data", ignore_errors=True)
        for path in (home / "repo" / "archive").rglob("*-*.lz4"):
            path.unlink()
        for name in names:
            (status / f"{name}.done").unlink(missing_ok=True)
            (status / f"{name}.ready").touch()
        os.sync()

    def contestant(name: str, command: str, **more: str) -> Contestant:
        argv = [sys.executable, "-S", "-c", ARCHIVER, str(status), " ".join(names), command]
        return Contestant(name, argv, {**settings(home), **more}, prepare)

    contestants = [contestant("pgbackrest archive-push", f"{' '.join(rival)} archive-push %p")] if rival else []
    walg = f"{SCRIPTS}/wal-g-pg wal-push %p"
    contestants += [
        contestant("wal-g wal-push", walg),
        contestant("... PG_READY_RENAME", walg, PG_READY_RENAME="true"),
        contestant("wal-g's daemon", f"{daemon} wal-push %f"),
    ]
    compete(contestants, options.rounds)
    report(f"{len(names)} ready segments of 16 MiB", contestants)


def fetch(home: Path, options: argparse.Namespace, names: list[str], rival: list[str], daemon: str) -> None:
    """All of them back, with a pause for each one's replay."""
    target = home / "data" / "pg_wal" / "RECOVERYXLOG"

    def prepare() -> None:
        shutil.rmtree(target.parent / ".wal-g", ignore_errors=True)
        target.unlink(missing_ok=True)

    def contestant(name: str, command: str) -> Contestant:
        argv = [sys.executable, "-S", "-c", RECOVERY, str(target), " ".join(names), command, str(options.replay)]
        return Contestant(name, argv, settings(home), prepare)

    missing = [name for name in names if not (home / "archive" / "wal_005" / f"{name}.lz4").exists()]
    for name in missing:
        command = [str(SCRIPTS / "wal-g-pg"), "wal-push", str(target.parent / name)]
        subprocess.run(command, env={**os.environ, **settings(home)}, check=True)
    if rival:
        for name in names:
            subprocess.run([*rival, "archive-push", str(target.parent / name)], check=True, capture_output=True)
    contestants = [contestant("pgbackrest archive-get", f"{' '.join(rival)} archive-get %f %p")] if rival else []
    contestants += [
        contestant("wal-g wal-fetch", f"{SCRIPTS}/wal-g-pg wal-fetch %f %p"),
        contestant("wal-g's daemon", f"{daemon} wal-fetch %f %p"),
    ]
    compete(contestants, options.rounds)
    replay = options.replay * len(names)
    report(f"recovery of {len(names)} segments, {replay:.0f} s of it the replay itself", contestants)


if __name__ == "__main__":
    main()
