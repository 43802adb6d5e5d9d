"""An OSS endpoint for tests."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import requests


class Emulator:
    """A running server. `settings` are those of wal-g for a bucket in it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def settings(self, prefix: str = "oss://backups/some/path") -> dict[str, str]:
        """Settings for a path in a bucket, which is made."""
        self.control(f"bucket/{prefix.partition('://')[2].partition('/')[0]}")
        return {
            "WALG_OSS_PREFIX": prefix,
            "OSS_ENDPOINT": self.url,
            "OSS_REGION": "cn-test",
            "OSS_ACCESS_KEY_ID": "ak",
            "OSS_ACCESS_KEY_SECRET": "sk",
        }

    def control(self, words: str) -> Any:
        """Make it misbehave (see `server`)."""
        return requests.get(f"{self.url}/_control/{words}", timeout=30).json()


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """A server that lives as long as the block. Raises OSError when it does not start."""
    base = tempfile.mkdtemp(prefix="walg-oss-")
    with open(os.path.join(base, "log"), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__name__}.server", base], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        port = os.path.join(base, "port")
        deadline = time.monotonic() + 30
        while not os.path.exists(port):
            if process.poll() is not None or time.monotonic() > deadline:
                with open(os.path.join(base, "log"), encoding="utf-8", errors="replace") as file:
                    raise OSError(f"the OSS server did not start: {file.read()[-500:]}")
            time.sleep(0.02)
        with open(port, encoding="utf-8") as file:
            yield Emulator(int(file.read()))
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(base, ignore_errors=True)
