"""An Azure Blob endpoint for tests."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

ACCOUNT = "devstoreaccount1"
CONTAINERS = ("backups", "container")
# The well-known key of every Azure emulator.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Emulator:
    """A running server with the containers `backups` and `container`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def settings(self, prefix: str = "azure://backups/some/path") -> dict[str, str]:
        """wal-g's settings for a path in one of its containers."""
        return {
            "WALG_AZ_PREFIX": prefix,
            "AZURE_STORAGE_ACCOUNT": ACCOUNT,
            "AZURE_STORAGE_ACCESS_KEY": KEY,
            "AZURE_ENDPOINT": f"{self.url}/{ACCOUNT}",
        }


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """A server that lives as long as the block. Raises OSError when it does not start."""
    base = tempfile.mkdtemp(prefix="walg-azure-")
    port = os.path.join(base, "port")
    with open(os.path.join(base, "log"), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__name__}.server", port], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 30
        while not os.path.exists(port):
            if process.poll() is not None or time.monotonic() > deadline:
                with open(os.path.join(base, "log"), encoding="utf-8", errors="replace") as file:
                    raise OSError(f"the Azure server did not start: {file.read()[-500:]}")
            time.sleep(0.02)
        with open(port, encoding="utf-8") as file:
            yield Emulator(int(file.read()))
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(base, ignore_errors=True)
