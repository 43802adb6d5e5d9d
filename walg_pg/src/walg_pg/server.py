"""A SQL session with the server: synchronous calls over asyncpg, whose loop runs in one private thread.

Connection parameters are libpq's environment (spec/postgres-backup.md 3); the command line has exported those of
the configuration file before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
from walg_core.errors import EngineError, WalgError
from walg_core.observe import log

_T = TypeVar("_T")

SOCKET_DIRECTORIES = ("/var/run/postgresql", "/private/tmp", "/tmp")  # noqa: S108 - where libpq looks, too
_GREENPLUM = (("gp_role", "utility"), ("gp_session_role", "utility"))
_CONNECTION_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.CannotConnectNowError,
    ConnectionError,
    OSError,
)

# Refusals that Greenplum's utility mode would not change.
_FINAL = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)


class ServerGone(EngineError):
    """The connection is lost: the server was stopped, crashed, or ended the session."""


class _Loop:
    """The one event loop of this process, started on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, _T], timeout: float | None = None) -> _T:
        """The result of `work`; it is cancelled when waiting for it is interrupted or takes too long."""
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="postgresql session", daemon=True).start()
            return self._loop


_loop = _Loop()


def parameters(environment: Mapping[str, str]) -> dict[str, Any]:
    """asyncpg's arguments from libpq's variables (those that asyncpg reads itself are left to it).

    Without `PGHOST`: the first socket directory that exists, else `localhost`.
    """
    found: dict[str, Any] = {}
    settings = {"application_name": environment.get("PGAPPNAME") or "wal-g"}
    if environment.get("PGTZ"):
        settings["TimeZone"] = environment["PGTZ"]
    settings |= _options(environment.get("PGOPTIONS", ""))
    found["server_settings"] = settings
    service = environment.get("PGSERVICE")
    if service:
        found["dsn"] = f"postgresql:///?service={service}"
    elif not environment.get("PGHOST"):
        found["host"] = next(filter(os.path.isdir, SOCKET_DIRECTORIES), "localhost")
    timeout = environment.get("PGCONNECT_TIMEOUT", "")
    if timeout.isdigit() and int(timeout) > 0:
        found["timeout"] = max(2, int(timeout))
    return found


def _options(text: str) -> dict[str, str]:
    """The settings in `PGOPTIONS` (`-c name=value`, `-cname=value`, `--name=value`)."""
    settings: dict[str, str] = {}
    words = iter(shlex.split(text))
    for word in words:
        pair = next(words, "") if word == "-c" else word.removeprefix("-c") if word.startswith("-c") else word[2:]
        name, sign, value = pair.partition("=")
        if not sign or not word.startswith("-"):
            raise EngineError(f"PGOPTIONS: {word!r} is not understood", hint="write it as -c name=value")
        settings[name.replace("-", "_")] = value
    return settings


def place(environment: Mapping[str, str]) -> str:
    """Where the server is looked for, in words, without secrets."""
    host = environment.get("PGHOST") or parameters(environment).get("host") or "the service's host"
    return f"{host}:{environment.get('PGPORT') or 5432}, database {environment.get('PGDATABASE') or 'of the user'}"


class Server:
    """One connection. Every failure is an EngineError; a lost connection is ServerGone. Usable from any thread.

    `version` is `server_version_num`. Statements of one connection run one after the other.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._busy = threading.Lock()
        self.version = 0

    @classmethod
    def connect(cls, database: str = "", settings: Mapping[str, str] | None = None) -> Server:
        """Connect as the environment says (to `database` when given) and learn the version.

        A server that refuses the start-up (not one that is unreachable) is tried again with Greenplum's utility
        mode, as the original does. Raises EngineError with the first failure.
        """
        arguments = parameters(os.environ)
        if database:
            arguments["database"] = database
        server = cls(_connect(arguments, dict(settings or {})))
        server.version = int(server.value("select current_setting('server_version_num')::int"))
        return server

    def query(self, sql: str, *arguments: Any, timeout: float | None = None) -> list[Sequence[Any]]:
        """All rows. `timeout` in seconds raises EngineError."""
        with self._busy:
            return self._run(self._connection.fetch(sql, *arguments), timeout)

    def row(self, sql: str, *arguments: Any, timeout: float | None = None) -> Sequence[Any]:
        """Exactly one row."""
        rows = self.query(sql, *arguments, timeout=timeout)
        if len(rows) != 1:
            raise EngineError(f"the server gave {len(rows)} rows instead of one for: {sql}")
        return rows[0]

    def value(self, sql: str, *arguments: Any, timeout: float | None = None) -> Any:
        """The first column of the only row."""
        return self.row(sql, *arguments, timeout=timeout)[0]

    def execute(self, sql: str, timeout: float | None = None) -> None:
        """Run statements without a result."""
        with self._busy:
            self._run(self._connection.execute(sql), timeout)

    def ping(self, timeout: float = 30) -> None:
        """Ask something trivial. Nothing is asked while another statement runs: it will tell. Raises ServerGone."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            self._run(self._connection.execute("select 1"), timeout)
        except EngineError as error:
            raise ServerGone(f"the server does not answer any more: {error}") from error
        finally:
            self._busy.release()

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as is known without asking."""
        return not self._connection.is_closed()

    def close(self) -> None:
        """End the session. Idempotent; never raises: the server ends it anyway."""
        with contextlib.suppress(WalgError):
            self._run(self._connection.close(timeout=5), 10)

    def _run(self, work: Coroutine[Any, Any, _T], timeout: float | None) -> _T:
        try:
            return _loop.run(work, timeout)
        except TimeoutError as error:
            raise EngineError(f"the server did not answer within {timeout:.0f} s") from error
        except _CONNECTION_LOST as error:
            raise ServerGone(f"lost the connection to the server: {error}") from error
        except asyncpg.PostgresError as error:
            raise EngineError(f"the server refused: {error}", hint=getattr(error, "hint", None)) from error

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(arguments: dict[str, Any], settings: dict[str, str]) -> Any:
    first: BaseException | None = None
    for attempt in range(1 + len(_GREENPLUM)):
        offered = {**arguments["server_settings"], **settings, **dict(_GREENPLUM[:attempt])}
        try:
            return _loop.run(_open({**arguments, "server_settings": offered}))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
            first = first or error
            if not isinstance(error, asyncpg.PostgresError) or isinstance(error, _FINAL):
                break
    raise _unreachable(first)


async def _open(arguments: dict[str, Any]) -> Any:
    connection = await asyncpg.connect(**arguments)
    connection.add_log_listener(_notice)
    return connection


def _notice(_connection: Any, message: Any) -> None:
    text = f"server: {message.message}" if getattr(message, "message", None) else f"server: {message}"
    if getattr(message, "severity_en", None) == "WARNING" or isinstance(message, asyncpg.PostgresWarning):
        log.warning(text)
    else:
        log.debug(text)


def _unreachable(error: BaseException | None) -> EngineError:
    return EngineError(
        f"cannot connect to PostgreSQL at {place(os.environ)}: {error or type(error).__name__}",
        hint="is the server running, and do PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE say how to reach it?",
    )
