"""An OSS endpoint for tests."""

import contextlib
from collections.abc import Iterator
from typing import Any

import requests
from walg_core.testing.servers import python_server


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
    with python_server(f"{__name__}.server", "OSS") as port:
        yield Emulator(port)
