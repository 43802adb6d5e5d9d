"""Emulators that are Python modules: started as a process, found by the port that they write down."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

PATIENCE = 60.0
"""Seconds until a server must have written its port."""


@contextlib.contextmanager
def python_server(module: str, what: str) -> Iterator[int]:
    """Run `python -m MODULE DIRECTORY` as long as the block; its port on 127.0.0.1.

    The server writes the port into the file `port` of the directory, in one step, once it listens. Raises OSError when
    it does not start, with the end of what it said.
    """
    base = tempfile.mkdtemp(prefix="walg-server-")
    log, port = os.path.join(base, "log"), os.path.join(base, "port")
    with open(log, "wb") as output:
        process = subprocess.Popen([sys.executable, "-m", module, base], stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(port):
            if process.poll() is not None or time.monotonic() > deadline:
                with open(log, encoding="utf-8", errors="replace") as said:
                    raise OSError(f"the {what} server did not start: {said.read()[-500:]}")
            time.sleep(0.02)
        with open(port, encoding="utf-8") as file:
            yield int(file.read())
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(base, ignore_errors=True)
