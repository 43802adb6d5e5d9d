"""What the PostgreSQL benchmarks share: a cluster full of half-compressible rows, and pgBackRest's configuration."""

from __future__ import annotations

import argparse
import getpass
import shutil
import subprocess
import sys
import time
from pathlib import Path

from walg_pg.cluster import Cluster

CONFIGURATION = """
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

BARMAN = """
[barman]
barman_user = {owner}
barman_home = {root}/barman
barman_lock_directory = {root}/barman
log_file = {root}/barman/log
configuration_files_directory = {root}/barman
[main]
description = benchmark
conninfo = host={socket} port={port} user={user} dbname=postgres
streaming_conninfo = host={socket} port={port} user={user}
path_prefix = {binaries}
backup_method = postgres
backup_compression = {method}
backup_compression_location = server
backup_compression_format = tar
archiver = on
immediate_checkpoint = true
minimum_redundancy = 0
"""

ROWS = """
import base64, os, sys
filler = "order of customer {0} in the region of the north, paid by card, delivered to the door; " * 6
for number in range(int(sys.argv[1])):
    sys.stdout.write(f"{number}\\t{number % 1000}\\t{base64.b64encode(os.urandom(360)).decode()}{filler.format(number)[:480]}\\n")
"""  # noqa: E501 - one line of the program
ROW = 1024


def options(description: str | None) -> argparse.Namespace:
    """What both benchmarks of whole backups take on the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--gigabytes", type=float, default=3, help="of half-compressible rows")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--method", default="lz4", choices=("lz4", "zstd"))
    parser.add_argument("--major", type=int, default=15, help="PostgreSQL's; pgBackRest 2.45 knows up to 15")
    parser.add_argument("--directory", default=None, help="where the cluster and the archives go")
    return parser.parse_args()


def settings(root: Path) -> dict[str, str]:
    """Of a server whose archiver costs little and that does not work in the background while it is measured.

    Barman wants to see WAL arrive before it makes a backup.
    """
    incoming = root / "barman" / "main" / "incoming"
    return {
        "archive_mode": "on",
        "archive_command": f"test ! -d {incoming} || cp %p {incoming}/%f",
        "fsync": "off",
        "max_wal_size": "8GB",
        "autovacuum": "off",
        "wal_compression": "off",
    }


def fill(cluster: Cluster, gigabytes: float) -> None:
    """A table of about that size in which half of each row is random text and half is repeated words."""
    program = cluster.data.parent / "rows.py"
    program.write_text(ROWS)
    rows = int(gigabytes * 2**30 / ROW)
    cluster.query("create table orders (id bigint, changed int, body text)")
    cluster.query("alter table orders alter body set storage plain")
    cluster.query(f"copy orders from program '{sys.executable} {program} {rows}'")
    cluster.query("create unique index on orders (id); checkpoint")


class Changes:
    """Rewrites one per cent of the rows, each time the next one, as a load with a working set does."""

    def __init__(self, cluster: Cluster, gigabytes: float) -> None:
        self.cluster = cluster
        self.size = int(gigabytes * 2**30 / ROW / 100)
        self.turn = 0

    def __call__(self) -> None:
        first = self.turn % 100 * self.size
        self.turn += 1
        self.cluster.query(
            f"update orders set changed = changed + 1 where id >= {first} and id < {first + self.size}; checkpoint"
        )


def pgbackrest(cluster: Cluster, root: Path, method: str) -> list[str]:
    """The command with its configuration and a stanza; empty, with a word on stderr, where it is not installed."""
    program = shutil.which("pgbackrest")
    if not program:
        print("pgbackrest is not installed: only wal-g is measured", file=sys.stderr)
        return []
    (root / "pgbackrest-log").mkdir(exist_ok=True)
    variables = cluster.client_environment()
    configuration = root / "pgbackrest.conf"
    configuration.write_text(
        CONFIGURATION.format(
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
    return base


def barman(cluster: Cluster, root: Path, method: str) -> list[str]:
    """Barman's command with its configuration, WAL having arrived; empty, with a word on stderr, where there is none.

    It backs up through pg_basebackup, compressed by the server. Its restore of a compressed backup unpacks tars.
    """
    program = shutil.which("barman")
    if not program:
        print("barman is not installed: it is not measured", file=sys.stderr)
        return []
    incoming = root / "barman" / "main" / "incoming"
    incoming.mkdir(parents=True)
    for directory in (root / "barman", root / "barman" / "main", incoming):
        directory.chmod(0o777)
    variables = cluster.client_environment()
    configuration = root / "barman.conf"
    configuration.write_text(
        BARMAN.format(
            root=root,
            owner=getpass.getuser(),
            port=variables["PGPORT"],
            socket=variables["PGHOST"],
            user=variables["PGUSER"],
            binaries=cluster.binaries,
            method=method,
        )
    )
    base = [program, "--config", str(configuration)]
    cluster.query("select pg_logical_emit_message(true, 'benchmark', 'something to switch'); select pg_switch_wal()")
    while not any(incoming.iterdir()):
        time.sleep(0.1)
    subprocess.run([*base, "cron"], check=True)
    while subprocess.run([*base, "check", "main"], check=False, capture_output=True).returncode:
        time.sleep(1)
    return base
