"""Cold wal-push and wal-fetch of one segment, the marker hit, and the daemon's client, against pgBackRest."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Contestant, compete, report
from walg_pg.cluster import Cluster, find_binaries

WAL_G = [str(Path(sys.executable).parent / "wal-g-pg")]


def main() -> None:
    """Make a cluster with real segments, then time each command in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="walg-bench-"))
    home.chmod(0o755)
    try:
        run(home, options.rounds)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run(home: Path, rounds: int) -> None:
    """All comparisons in `home`."""
    with stopped_cluster(home) as rival:
        segment = sorted(p for p in (home / "data" / "pg_wal").iterdir() if len(p.name) == 24)[1]
        push(home, rounds, segment, rival)
        fetch(home, rounds, segment, rival)


@contextlib.contextmanager
def stopped_cluster(home: Path) -> Iterator[list[str]]:
    """A cluster with real WAL in `home/data`, shut down; gives the rival's command line."""
    # pgBackRest 2.45 knows servers up to 15.
    binaries = find_binaries(15) if shutil.which("pgbackrest") else find_binaries()
    with Cluster(home / "data", binaries=binaries, settings={"wal_keep_size": "2GB", "fsync": "off"}) as cluster:
        cluster.initdb()
        rival = pgbackrest(home, cluster)
        cluster.start()
        cluster.query("create table t as select i, md5(i::text) as v from generate_series(1, 900000) i")
        cluster.query("select pg_switch_wal()")
        if rival:
            subprocess.run([*rival, "stanza-create"], check=True, capture_output=True)
        cluster.stop()
        yield rival


def pgbackrest(home: Path, cluster: Cluster) -> list[str]:
    """The rival's command line, empty when it is not installed."""
    program = shutil.which("pgbackrest")
    if not program:
        print("pgbackrest is not installed: measured without it", file=sys.stderr)
        return []
    for name in ("repo", "log", "lock"):
        (home / name).mkdir()
    (home / "rival.conf").write_text(
        f"[global]\nrepo1-path={home}/repo\nlog-path={home}/log\nlock-path={home}/lock\ncompress-type=lz4\n"
        f"[main]\npg1-path={cluster.data}\npg1-socket-path={cluster.socket_directory}\npg1-port={cluster.port}\n"
        f"pg1-user=postgres\n"
    )
    return [program, f"--config={home}/rival.conf", "--stanza=main", "--log-level-console=error"]


def settings(home: Path) -> dict[str, str]:
    """wal-g's settings: a local archive, lz4, no background work."""
    (home / "archive").mkdir(exist_ok=True)
    return {
        "WALG_FILE_PREFIX": str(home / "archive"),
        "PGDATA": str(home / "data"),
        "TOTAL_BG_UPLOADED_LIMIT": "1",
        "WALG_DOWNLOAD_CONCURRENCY": "1",
        "WALG_LOG_LEVEL": "ERROR",
    }


def push(home: Path, rounds: int, segment: Path, rival: list[str]) -> None:
    """Cold push, marker hit, through the daemon."""
    common = settings(home)

    def forget() -> None:
        for path in (home / "repo" / "archive").rglob(f"{segment.name}-*"):
            path.unlink()

    contestants = []
    if rival:
        contestants.append(Contestant("pgbackrest archive-push", [*rival, "archive-push", str(segment)], {}, forget))
    contestants.append(Contestant("wal-g wal-push", [*WAL_G, "wal-push", str(segment)], common))

    def mark() -> None:
        from walg_core.cli.session import Session
        from walg_pg.journal.push import Pusher

        os.environ.update(common)
        context = Session(["wal-push"], "pg").start()
        Pusher(context, context.write_storage(), str(segment.parent)).mark(segment.name)
        context.close()

    contestants.append(Contestant("wal-g wal-push, marked", [*WAL_G, "wal-push", str(segment)], common, mark))
    daemon = subprocess.Popen(
        [*WAL_G, "daemon", str(home / "s")], env={**os.environ, **common}, stderr=subprocess.DEVNULL
    )
    try:
        while not (home / "s").exists():
            time.sleep(0.05)
        client = [sys.executable, "-m", "walg_pg.daemon.client", str(home / "s"), "wal-push", segment.name]
        # Another file by its time: what the daemon knows to be stored already, it would only look at.
        contestants.append(Contestant("wal-g through the daemon", client, {}, lambda: os.utime(segment)))
        compete(contestants, rounds)
    finally:
        daemon.terminate()
        daemon.wait()
    report("wal-push of one segment of 16 MiB", contestants)


def fetch(home: Path, rounds: int, segment: Path, rival: list[str]) -> None:
    """Cold fetch."""
    target = home / "fetched"

    def remove() -> None:
        target.unlink(missing_ok=True)

    contestants = []
    if rival:
        words = [*rival, "archive-get", segment.name, str(target)]
        contestants.append(Contestant("pgbackrest archive-get", words, {}, remove))
    words = [*WAL_G, "wal-fetch", segment.name, str(target)]
    contestants.append(Contestant("wal-g wal-fetch", words, settings(home), remove))
    compete(contestants, rounds)
    report("wal-fetch of one segment of 16 MiB", contestants)


if __name__ == "__main__":
    main()
