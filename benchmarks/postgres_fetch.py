"""`wal-g backup-fetch` against pgBackRest and Barman: a full backup, and a full with three deltas upon it.

Barman 3.4 has no deltas to restore.

python benchmarks/postgres_fetch.py --gigabytes 3 --rounds 5 --method lz4
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _postgres import Changes, barman, fill, options, pgbackrest, settings
from measure import Contestant, compete, report
from walg_pg.cluster import Cluster, find_binaries

WAL_G = [sys.executable, "-m", "walg_core", "pg"]


def fresh(path: Path) -> Callable[[], None]:
    """What makes `path` an empty directory and waits until the disk has written all before it."""

    def prepare() -> None:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        os.sync()

    return prepare


def contestants(
    base: list[str], variables: dict[str, str], root: Path, barman_base: list[str] | None = None
) -> list[Contestant]:
    """Each restores the newest backup of its own repository into a directory of its own."""
    found = []
    if base:
        theirs = root / "theirs"
        argv = [*base, f"--pg1-path={theirs}", "--type=none", "restore"]
        found.append(Contestant("pgbackrest", argv, {}, fresh(theirs)))
    if barman_base:
        restored = root / "barmans"
        argv = [*barman_base, "recover", "--recovery-staging-path", str(root), "main", "latest", str(restored)]
        found.append(Contestant("barman", argv, {}, fresh(restored)))
    ours = root / "ours"
    found.append(Contestant("wal-g", [*WAL_G, "backup-fetch", str(ours), "LATEST"], variables, fresh(ours)))
    return found


def main() -> None:
    """Make a cluster and its backups, measure the restores, throw all away."""
    chosen = options(__doc__)
    root = Path(tempfile.mkdtemp(prefix="walg-bench-", dir=chosen.directory))
    root.chmod(0o755)
    cluster = Cluster(root / "data", binaries=find_binaries(chosen.major), settings=settings(root))
    (root / "archive").mkdir()
    try:
        cluster.initdb("-k")
        cluster.start()
        fill(cluster, chosen.gigabytes)
        base = pgbackrest(cluster, root, chosen.method)
        barman_base = barman(cluster, root, chosen.method)
        variables = {
            **cluster.client_environment(),
            "WALG_FILE_PREFIX": str(root / "archive"),
            "WALG_COMPRESSION_METHOD": chosen.method,
            "WALG_DELTA_MAX_STEPS": "3",
        }

        def back_up(kind: str) -> None:
            if base:
                subprocess.run([*base, f"--type={kind}", "backup"], check=True)
            push = [*WAL_G, "backup-push", str(cluster.data)]
            subprocess.run(push, check=True, env={**os.environ, **variables}, stderr=subprocess.DEVNULL)

        back_up("full")
        if barman_base:
            subprocess.run([*barman_base, "backup", "main"], check=True)
        racers = contestants(base, variables, root, barman_base)
        compete(racers, chosen.rounds)
        report(f"fetch of a full backup, {chosen.method}, {chosen.gigabytes:g} GB", racers)
        change = Changes(cluster, chosen.gigabytes)
        for _ in range(3):
            change()
            back_up("incr")
        racers = contestants(base, variables, root)
        compete(racers, chosen.rounds)
        report(f"fetch of a full backup and three deltas, {chosen.method}, {chosen.gigabytes:g} GB", racers)
    finally:
        cluster.destroy()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
