"""MariaDB's binary logs: binlog-push and binlog-fetch against `zstd` and `cp` over the same files.

python benchmarks/mysql_binlog.py --files 20 --megabytes 50 --rounds 3 [--rival PROGRAM]

`--rival` names another program with the same commands. Row images: one half random, the other half repeating itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import pymysql
from measure import Contestant, compete, report, timed
from mysql_push import WALG, connect, serve


def write(port: int, files: int, megabytes: int) -> None:
    """`files` complete binary logs of about `megabytes` each, and the one that is being written."""
    with connect(port) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE shop")
        cursor.execute("CREATE TABLE shop.t (id INT, a VARCHAR(600), b VARCHAR(600))")
        for _ in range(files):
            for _ in range(megabytes // 5):
                _insert(cursor)
            cursor.execute("TRUNCATE shop.t")
            cursor.execute("FLUSH BINARY LOGS")


def _insert(cursor: pymysql.cursors.Cursor) -> None:
    half = "HEX(RANDOM_BYTES(256)), REPEAT(MD5(seq), 16)"
    cursor.execute(f"INSERT INTO shop.t SELECT seq, {half} FROM shop.seq_1_to_4800")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rival", default="", help="another program with the same commands")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="walg-bench-"))
    (root / "archive").mkdir()
    process, port = serve(root, "--log-bin=mysql-bin", "--binlog-format=ROW", "--max-binlog-size=1G")
    try:
        write(port, options.files, options.megabytes)
        measure(root, port, options)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(root)


def measure(root: Path, port: int, options: argparse.Namespace) -> None:
    """Pushes of all complete files, then fetches of what was pushed last."""
    environment = {
        "WALG_FILE_PREFIX": str(root / "archive"),
        "WALG_COMPRESSION_METHOD": "zstd",
        "WALG_MYSQL_DATASOURCE_NAME": f"root@tcp(127.0.0.1:{port})/mysql",
        "WALG_MYSQL_BINLOGS_CACHE": str(root / "cache"),
        "WALG_MYSQL_BINLOG_DST": str(root / "fetched"),
        "WALG_STREAM_CREATE_COMMAND": "echo nothing",
    }
    rival_cache = Path.home() / ".walg_mysql_binlogs_cache"
    names = (root / "data/mysql-bin.index").read_text().split()[:-1]
    files = " ".join(Path(name).name for name in names)
    size = sum((root / "data" / Path(name).name).stat().st_size for name in names)
    title = f"{len(names)} binary logs, {size / 1e6:.0f} MB"

    def empty() -> None:
        for name in ("archive/binlog_005", "by-hand", "fetched"):
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir()
        for cache in (root / "cache", *([rival_cache] if options.rival else [])):
            cache.unlink(missing_ok=True)
        os.sync()

    shell = f"cd {root}/data; for f in {files}; do"
    pushes = [
        Contestant(
            "zstd -3 -T2, sync", ["sh", "-c", f"set -e; {shell} zstd -q -3 -T2 $f -o {root}/by-hand/$f.zst; done; sync"]
        ),
        Contestant("wal-g binlog-push", [*WALG, "binlog-push"], environment),
        *([Contestant("rival", [options.rival, "binlog-push"], environment)] if options.rival else []),
    ]
    for each in pushes:
        each.prepare = empty
    compete(pushes, options.rounds)
    report(f"binlog-push, {title}", pushes)

    empty()
    timed([*WALG, "backup-push"], environment)
    timed([*WALG, "binlog-push"], environment)

    def clear() -> None:
        shutil.rmtree(root / "fetched", ignore_errors=True)
        (root / "fetched").mkdir()
        os.sync()

    unpack = (
        f"set -e; cd {root}/archive/binlog_005; for f in *; do zstd -q -d $f -o {root}/fetched/${{f%.zst}}; done; sync"
    )
    fetches = [
        Contestant("zstd -d, sync", ["sh", "-c", unpack]),
        Contestant("cp, sync", ["sh", "-c", f"set -e; {shell} cp $f {root}/fetched/; done; sync"]),
        Contestant("wal-g binlog-fetch", [*WALG, "binlog-fetch"], environment),
        *([Contestant("rival", [options.rival, "binlog-fetch"], environment)] if options.rival else []),
    ]
    for each in fetches:
        each.prepare = clear
    compete(fetches, options.rounds)
    report(f"binlog-fetch, {title}", fetches)


if __name__ == "__main__":
    main()
