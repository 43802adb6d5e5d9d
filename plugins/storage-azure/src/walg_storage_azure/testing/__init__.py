"""An Azure Blob endpoint for tests."""

import contextlib
from collections.abc import Iterator

from walg_core.testing.servers import python_server

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
    with python_server(f"{__name__}.server", "Azure") as port:
        yield Emulator(port)
