"""A Swift server for tests: real Swift from the package `swift`, in one process."""

import contextlib
import importlib.util
from collections.abc import Iterator

import urllib3
from walg_core.testing.servers import python_server


class Emulator:
    """A running server. `settings` are those of wal-g for a container in it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def settings(self, prefix: str = "swift://backups/some/path", version: int = 3) -> dict[str, str]:
        """Settings for the identity service of `version` 1, 2 or 3; the container is made."""
        self.make_container(prefix.partition("://")[2].partition("/")[0])
        path = {1: "auth/v1.0", 2: "v2.0", 3: "v3"}[version]
        user = "test:tester" if version == 1 else "tester"
        common = {"OS_AUTH_URL": f"{self.url}/{path}", "OS_USERNAME": user, "OS_PASSWORD": "testing"}
        project = {} if version == 1 else {"OS_TENANT_NAME": "test", "OS_REGION_NAME": "R"}
        return {"WALG_SWIFT_PREFIX": prefix, **common, **project}

    def make_container(self, name: str) -> None:
        user = {"X-Auth-User": "test:tester", "X-Auth-Key": "testing"}
        found = urllib3.request("GET", f"{self.url}/auth/v1.0", headers=user, timeout=30).headers
        token = {"X-Auth-Token": found["X-Auth-Token"]}
        urllib3.request("PUT", f"{found['X-Storage-Url']}/{name}", headers=token, timeout=30)

    def control(self, words: str) -> list[str]:
        """Make it misbehave (see `server`); the requests seen since the last call."""
        seen: list[str] = urllib3.request("POST", f"{self.url}/_control/{words}", timeout=30).json()
        return seen


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """A server that lives as long as the block. Raises ModuleNotFoundError without `swift`, OSError if it fails."""
    if not importlib.util.find_spec("swift"):
        raise ModuleNotFoundError("the package swift is not installed")
    with python_server(f"{__name__}.server", "Swift") as port:
        yield Emulator(port)
