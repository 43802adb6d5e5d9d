"""`wal-g backup-push` against pgBackRest and Barman (Debian's) on the same running server: full backups and deltas.

Barman 3.4 backs up through pg_basebackup, which has no deltas before PostgreSQL 17.

python benchmarks/postgres_push.py --gigabytes 3 --rounds 5 --method lz4
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from _postgres import Changes, barman, fill, options, pgbackrest, settings
from measure import Contestant, compete, report
from walg_pg.cluster import Cluster, find_binaries


def empty(path: Path) -> None:
    """Remove everything below `path`."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def contestants(cluster: Cluster, root: Path, method: str, *, delta: bool) -> list[Contestant]:
    """pgBackRest and Barman where they are installed, then wal-g. `delta` measures what follows a full backup."""
    found = []
    base = pgbackrest(cluster, root, method)
    if base:
        found.append(Contestant("pgbackrest", [*base, f"--type={'incr' if delta else 'full'}", "backup"]))
    if not delta and (base := barman(cluster, root, method)):
        found.append(Contestant("barman", [*base, "backup", "main"]))
    archive = root / "archive"
    variables = {
        **cluster.client_environment(),
        "WALG_FILE_PREFIX": str(archive),
        "WALG_COMPRESSION_METHOD": method,
        "WALG_DELTA_MAX_STEPS": "100" if delta else "0",
    }
    argv = [sys.executable, "-m", "walg_core", "pg", "backup-push", str(cluster.data)]
    prepare = (lambda: None) if delta else (lambda: empty(archive))
    found.append(Contestant("wal-g", argv, variables, prepare))
    return found


def main() -> None:
    """Make a cluster with pgbench, measure, throw it away."""
    chosen = options(__doc__)
    root = Path(tempfile.mkdtemp(prefix="walg-bench-", dir=chosen.directory))
    root.chmod(0o755)
    cluster = Cluster(root / "data", binaries=find_binaries(chosen.major), settings=settings(root))
    empty(root / "archive")
    try:
        cluster.initdb("-k")
        cluster.start()
        fill(cluster, chosen.gigabytes)
        full = contestants(cluster, root, chosen.method, delta=False)
        compete(full, chosen.rounds)
        report(f"full backup, {chosen.method}, {chosen.gigabytes:g} GB", full)
        delta = contestants(cluster, root, chosen.method, delta=True)
        for each in delta:
            each.prepare = Changes(cluster, chosen.gigabytes)
        compete(delta, chosen.rounds)
        report(f"delta after a change of 1 %, {chosen.method}, {chosen.gigabytes:g} GB", delta)
    finally:
        cluster.destroy()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
