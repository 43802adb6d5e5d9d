"""`wal-g backup-push` against `pgbackrest backup` (Debian) on the same running server: full backups and deltas.

python benchmarks/postgres_push.py --scale 60 --rounds 5 --method lz4
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Contestant, compete, report
from walg_pg.cluster import Cluster, find_binaries

PGBACKREST = """
[global]
repo1-path={root}/pgbackrest
log-path={root}/pgbackrest-log
lock-path={root}/pgbackrest-lock
compress-type={method}
process-max=2
start-fast=y
archive-check=n
log-level-console=warn
repo1-retention-full=1
[main]
pg1-path={data}
pg1-port={port}
pg1-socket-path={socket}
pg1-user={user}
"""


def empty(path: Path) -> None:
    """Remove everything below `path`."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def contestants(cluster: Cluster, root: Path, method: str, *, delta: bool) -> list[Contestant]:
    """pgBackRest where it is installed, then wal-g. `delta` measures what follows a full backup made beforehand."""
    found = []
    program = shutil.which("pgbackrest")
    if program:
        configuration = root / "pgbackrest.conf"
        variables = cluster.client_environment()
        configuration.write_text(
            PGBACKREST.format(
                root=root,
                data=cluster.data,
                port=variables["PGPORT"],
                socket=variables["PGHOST"],
                user=variables["PGUSER"],
                method={"zstd": "zst"}.get(method, method),
            )
        )
        base = [program, f"--config={configuration}", "--stanza=main"]
        subprocess.run([*base, "stanza-create"], check=True)
        found.append(Contestant("pgbackrest", [*base, f"--type={'incr' if delta else 'full'}", "backup"]))
    else:
        print("pgbackrest is not installed: only wal-g is measured", file=sys.stderr)
    archive = root / "archive"
    settings = {
        **cluster.client_environment(),
        "WALG_FILE_PREFIX": str(archive),
        "WALG_COMPRESSION_METHOD": method,
        "WALG_DELTA_MAX_STEPS": "100" if delta else "0",
    }
    argv = [sys.executable, "-m", "walg_core", "pg", "backup-push", str(cluster.data)]
    prepare = (lambda: None) if delta else (lambda: empty(archive))
    found.append(Contestant("wal-g", argv, settings, prepare))
    return found


def main() -> None:
    """Make a cluster with pgbench, measure, throw it away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=60, help="of pgbench; 60 is about 1 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--method", default="lz4", choices=("lz4", "zstd"))
    parser.add_argument("--major", type=int, default=15, help="PostgreSQL's; pgBackRest 2.45 knows up to 15")
    parser.add_argument("--directory", default=None, help="where the cluster and the archives go")
    chosen = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="walg-bench-", dir=chosen.directory))
    root.chmod(0o755)
    settings = {"archive_mode": "on", "archive_command": "true", "fsync": "off", "max_wal_size": "4GB"}
    cluster = Cluster(root / "data", binaries=find_binaries(chosen.major), settings={**settings, "autovacuum": "off"})
    empty(root / "archive")
    empty(root / "pgbackrest-log")

    def change() -> None:
        cluster.query("update pgbench_accounts set abalance = abalance + 1 where aid % 100000 < 1000; checkpoint")

    try:
        cluster.initdb("-k")
        cluster.start()
        cluster.run("pgbench", "-i", "-q", "-s", str(chosen.scale), "postgres", timeout=3600)
        cluster.query("checkpoint")
        full = contestants(cluster, root, chosen.method, delta=False)
        compete(full, chosen.rounds)
        report(f"full backup, {chosen.method}, scale {chosen.scale}", full)
        delta = contestants(cluster, root, chosen.method, delta=True)
        for each in delta:
            each.prepare = change
        compete(delta, chosen.rounds)
        report(f"delta after a change of 1 %, {chosen.method}, scale {chosen.scale}", delta)
    finally:
        cluster.destroy()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
