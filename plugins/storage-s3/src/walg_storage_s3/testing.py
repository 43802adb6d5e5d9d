"""An S3 server for tests: moto, in a process of its own. Needs the extra `testing`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping

PATIENCE = 120.0
"""Seconds until the server must answer."""


@contextlib.contextmanager
def moto(*words: str, environment: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server on a free port; its URL, once it answers. It is killed at the end.

    `words` go to its command line, `environment` to its process. `tls` is how to reach one that has a certificate.
    Raises ImportError where moto is not installed, RuntimeError when it does not start.
    """
    if importlib.util.find_spec("moto") is None:
        raise ImportError("moto is not installed (walg-storage-s3[testing])")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port), *words],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(f"{url}/moto-api/", tls):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("moto did not start")
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str, tls: ssl.SSLContext | None) -> bool:
    try:
        _ask("GET", url, tls)
    except OSError:
        return False
    return True


def _ask(method: str, url: str, tls: ssl.SSLContext | None) -> None:
    request = urllib.request.Request(url, method=method)  # noqa: S310 - always the server above
    urllib.request.urlopen(request, timeout=PATIENCE, context=tls).close()  # noqa: S310


def make_bucket(url: str, name: str = "bucket", tls: ssl.SSLContext | None = None) -> None:
    """A bucket on a server that takes any signature."""
    _ask("PUT", f"{url}/{name}", tls)


def settings(url: str, key: str = "x", secret: str = "x", bucket: str = "bucket") -> dict[str, str]:  # noqa: S107
    """The settings of a storage in a bucket of the server at `url`."""
    return {
        "WALG_S3_PREFIX": f"s3://{bucket}/some/path",
        "AWS_ENDPOINT": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_S3_FORCE_PATH_STYLE": "true",
    }


@contextlib.contextmanager
def emulator() -> Iterator[dict[str, str]]:
    """Starts a server with a bucket; gives the settings of a storage in it."""
    with moto() as url:
        make_bucket(url)
        yield settings(url)
