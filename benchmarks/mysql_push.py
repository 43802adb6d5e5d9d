"""MariaDB: backup-push and backup-fetch against `mariadb-backup --stream=xbstream | zstd` and back through mbstream.

python benchmarks/mysql_push.py --megabytes 500 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pymysql
from measure import Contestant, compete, report

USER = ["--user=root"] if os.getuid() == 0 else []
WALG = [sys.executable, "-c", "from walg_mysql.script import main; main()"]


def serve(root: Path, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    """A private server on fresh data, with further `options`."""
    words = ["mariadb-install-db", "--no-defaults", *USER, f"--datadir={root}/data", "--skip-test-db"]
    subprocess.run([*words, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    words = ["mariadbd", "--no-defaults", *USER, f"--datadir={root}/data", f"--port={port}"]
    words += ["--bind-address=127.0.0.1", f"--socket={root}/s", "--innodb-buffer-pool-size=128M"]
    words += ["--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=64M", *options]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(400):
        try:
            connect(port).close()
        except pymysql.err.OperationalError:
            time.sleep(0.05)
        else:
            return process, port
    raise SystemExit("the server does not start")


def connect(port: int) -> pymysql.connections.Connection:
    return pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True)


def fill(port: int, megabytes: int) -> None:
    """Rows of which one half is random and the other one repeats itself, in tables of up to 100 MB."""
    half = "HEX(RANDOM_BYTES(256)), REPEAT(MD5(seq), 16)"
    with connect(port) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE shop")
        cursor.execute("USE shop")
        for number in range(-(-megabytes // 100)):
            cursor.execute(f"CREATE TABLE t{number} (id INT PRIMARY KEY, a VARCHAR(600), b VARCHAR(600))")
            size = min(100, megabytes - number * 100)
            for part in range(size // 5):
                first, last = part * 4300 + 1, part * 4300 + 4300
                cursor.execute(f"INSERT INTO t{number} SELECT seq, {half} FROM seq_{first}_to_{last}")
        cursor.execute("SET GLOBAL innodb_max_dirty_pages_pct = 0")
        time.sleep(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="walg-bench-"))
    (root / "archive").mkdir()
    process, port = serve(root)
    try:
        fill(port, options.megabytes)
        measure(root, port, options.megabytes, options.rounds)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(root)


def measure(root: Path, port: int, megabytes: int, rounds: int) -> None:
    """Pushes, then fetches of what the last of them made."""
    tool = f"mariadb-backup --no-defaults --backup --stream=xbstream --host=127.0.0.1 --port={port} --user=root"
    tool += f" --datadir={root}/data --target-dir={root}/none"
    restored = root / "restored"
    environment = {
        "WALG_FILE_PREFIX": str(root / "archive"),
        "WALG_COMPRESSION_METHOD": "zstd",
        "WALG_MYSQL_DATASOURCE_NAME": f"root@tcp(127.0.0.1:{port})/",
        "WALG_STREAM_CREATE_COMMAND": tool,
        "WALG_STREAM_RESTORE_COMMAND": f"mbstream -x -C {restored}",
        "WALG_MYSQL_DATA_DIR": str(restored),
        "SHELL": "/bin/sh",
    }
    file = root / "backup.zst"
    by_hand = f"{tool} 2>/dev/null | zstd -q -f -3 -T2 - -o {file} && sync {file}"

    def clear() -> None:
        shutil.rmtree(root / "archive/basebackups_005", ignore_errors=True)
        file.unlink(missing_ok=True)
        os.sync()

    pushes = [
        Contestant("mariadb-backup | zstd", ["sh", "-c", by_hand], {}, clear),
        Contestant("wal-g backup-push", [*WALG, "backup-push"], environment, clear),
    ]
    compete(pushes, rounds)
    report(f"MariaDB push, {megabytes} MB", pushes)
    clear()
    subprocess.run(["sh", "-c", by_hand], check=True)
    subprocess.run([*WALG, "backup-push"], env={**os.environ, **environment}, check=True, capture_output=True)

    def empty() -> None:
        shutil.rmtree(restored, ignore_errors=True)
        restored.mkdir()
        os.sync()

    back = f"zstd -q -d -c {file} | mbstream -x -C {restored}"
    fetches = [
        Contestant("zstd -d | mbstream", ["sh", "-c", back], {}, empty),
        Contestant("wal-g backup-fetch", [*WALG, "backup-fetch", "LATEST"], environment, empty),
        Contestant("… in process", [*WALG, "backup-fetch", "LATEST", "--use-xbtool-extract"], environment, empty),
    ]
    compete(fetches, rounds)
    report(f"MariaDB fetch, {megabytes} MB", fetches)


if __name__ == "__main__":
    main()
