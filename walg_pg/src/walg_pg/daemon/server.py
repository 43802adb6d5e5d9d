"""The daemon: archive and restore commands over a UNIX socket, no new process for each (spec/postgres-wal.md 11).

Every request gets its answer only when its work is done and durable; a storage that is down fails the request, not the
daemon.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from walg_core.context import Context
from walg_core.errors import ConfigError, ObjectNotFound, WalgError
from walg_core.observe import log

from walg_pg.daemon import protocol
from walg_pg.daemon.ahead import Ahead
from walg_pg.daemon.notify import Notifier
from walg_pg.journal.fetch import fetch
from walg_pg.journal.prefetch import prefetch

BACKLOG = 128
PATIENCE = 30.0
"""Seconds that running requests get at least to finish after a stop signal; an upload gets all the time it may take."""
IDLE_LIMIT = 300.0
"""A connection without a request for this long (seconds) is closed."""


class Service:
    """One state of the configuration: its context, and what is uploaded ahead with it. `users` are at work with it.

    `background` counts those that nobody waits for.
    """

    def __init__(self, context: Context) -> None:
        data = context.config.get("PGDATA")
        if not data:
            raise ConfigError("the daemon needs PGDATA", hint="set PGDATA to the cluster's data directory")
        self.context = context
        self.data = os.path.abspath(data)
        self.timeout: float = context.config.get("WALG_DAEMON_WAL_UPLOAD_TIMEOUT")
        self.ahead = Ahead(context)
        self.users = 0
        self.background = 0


class Daemon:
    """Serves one socket until `stop`. One thread a connection."""

    def __init__(self, context: Context, path: str, notifier: Notifier | None = None) -> None:
        self.path = path
        self.notifier = notifier or Notifier(os.environ.get("NOTIFY_SOCKET"))
        self._service = Service(context)
        self._listener: socket.socket | None = None
        self._stopping = threading.Event()
        self._reloading = threading.Event()
        self._change = threading.Condition()

    def listen(self) -> None:
        """Bind the socket (mode 0600 & ~umask rules of the directory apply). Raises WalgError when it is taken."""
        _remove_stale(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.bind(self.path)
            os.chmod(self.path, 0o600)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise WalgError(f"cannot listen on {self.path}: {error.strerror}") from error
        listener.settimeout(0.5)
        self._listener = listener

    def serve(self) -> None:
        """Accept until `stop`, then let running requests finish and remove the socket."""
        if self._listener is None:
            self.listen()
        listener = self._listener
        assert listener is not None
        try:
            self._service.context.write_storage()
        except WalgError as error:
            log.error(f"the storage is not usable now, requests fail until it is: {error}")
        self.notifier.send("READY=1")
        self.notifier.start_watchdog()
        log.info(f"wal-g daemon listens on {self.path}")
        try:
            while not self._stopping.is_set():
                if self._reloading.is_set():
                    self._reloading.clear()
                    self._reload()
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()
        finally:
            self._shut_down(listener)

    def stop(self) -> None:
        """Ask `serve` to end; safe in a signal handler."""
        self._stopping.set()

    def reload(self) -> None:
        """Ask `serve` to read the configuration anew; safe in a signal handler."""
        self._reloading.set()

    def _reload(self) -> None:
        """The configuration, storages and keys as they are now, for requests from now on; a bad one changes nothing."""
        self.notifier.send("RELOADING=1")
        old = self._service
        try:
            if old.context.reread is not None:
                self._service = Service(old.context.reread())
                threading.Thread(target=self._retire, args=(old,), name="retire", daemon=True).start()
            log.info("reloaded: settings, storages and keys are those of now")
        except (WalgError, OSError) as error:
            log.error(
                f"the configuration was not reloaded, the old one stays in use: {error}",
                getattr(error, "hint", "") or "",
            )
        self.notifier.send("READY=1")

    def _retire(self, service: Service) -> None:
        """Close what nobody works with any more."""
        service.ahead.stop()
        service.ahead.wait(threading.TIMEOUT_MAX)
        with self._change:
            self._change.wait_for(lambda: not service.users and not service.background)
        service.context.close()

    @contextmanager
    def _at_work(self, *, background: bool = False) -> Iterator[Service]:
        """The service of now, kept open meanwhile."""
        with self._change:
            service = self._service
            service.users += not background
            service.background += background
        try:
            yield service
        finally:
            with self._change:
                service.users -= not background
                service.background -= background
                self._change.notify_all()

    def _shut_down(self, listener: socket.socket) -> None:
        self.notifier.send("STOPPING=1")
        self.notifier.stop()
        listener.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            log.debug(f"{self.path} is gone already")
        service = self._service
        service.ahead.stop()
        deadline = time.monotonic() + max(PATIENCE, service.timeout)
        with self._change:
            self._change.wait_for(lambda: not service.users, max(0.0, deadline - time.monotonic()))
        service.ahead.wait(max(0.0, deadline - time.monotonic()))
        if service.users:
            log.warning(f"{service.users} requests did not finish in time and are given up")

    # One connection.

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(IDLE_LIMIT)
            try:
                while self._one_request(connection):
                    pass
            except protocol.BadFrame as error:
                log.error(f"a client sent what is no request: {error}")
                _answer(connection, protocol.ERROR)
            except OSError as error:
                log.debug(f"a client went away: {error}")

    def _one_request(self, connection: socket.socket) -> bool:
        """Read, do, answer. Whether another request may follow."""
        head = _receive(connection, protocol.HEAD)
        if not head:
            return False
        kind, size = protocol.parse_head(head)
        body = _receive(connection, size)
        if len(body) < size:
            raise protocol.BadFrame("it is cut")
        if kind == protocol.CHECK:
            _answer(connection, protocol.OK)
            return True
        with self._at_work() as service:
            reply = self._reply(service, kind, body)
            _answer(connection, reply)
        return False

    def _reply(self, service: Service, kind: int, body: bytes) -> bytes:
        try:
            if kind == protocol.PUSH:
                return self._push(service, body.decode())
            if kind == protocol.FETCH:
                return self._fetch(service, protocol.parse_arguments(body))
        except ObjectNotFound as error:
            log.info(str(error))
            return protocol.NOT_FOUND
        except (WalgError, OSError, UnicodeDecodeError, protocol.BadFrame) as error:
            log.error(str(error))
            return protocol.ERROR
        except Exception as error:
            # A defect in one request must not end the daemon for all others.
            log.error(f"internal error: {type(error).__name__}: {error}")
            return protocol.ERROR
        log.error(f"unknown request type {kind:#x}")
        return protocol.ERROR

    def _push(self, service: Service, name: str) -> bytes:
        path = _inside(service.data, name if "/" in name else os.path.join("pg_wal", name), name)
        log.debug(f"wal-push {path}")
        return _within_time(lambda: service.ahead.push(path), service.timeout, f"wal-push {name}")

    def _fetch(self, service: Service, words: list[str]) -> bytes:
        if len(words) != 2:
            raise protocol.BadFrame(f"wal-fetch has {len(words)} arguments instead of 2")
        destination = _inside(service.data, words[1], words[1])
        log.debug(f"wal-fetch {words[0]} {destination}")
        fetch(service.context, words[0], destination, start_prefetch=self._start_prefetch)
        return protocol.OK

    def _start_prefetch(self, name: str, destination: str, target: str) -> None:
        def work() -> None:
            try:
                with self._at_work(background=True) as service:
                    prefetch(service.context, name, destination, target, follow=True)
            except (WalgError, OSError) as error:
                log.warning(f"prefetching after {name} failed: {error}")

        threading.Thread(target=work, name="prefetch", daemon=True).start()


def _within_time(work: Callable[[], None], limit: float, what: str) -> bytes:
    """Run `work`, but raise when it takes longer than `limit` seconds; it may still finish later."""
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(limit if limit > 0 else None)
    if not outcome:
        raise WalgError(f"{what} did not finish within {limit:g} s", hint="see WALG_DAEMON_WAL_UPLOAD_TIMEOUT")
    if outcome[0] is not None:
        raise outcome[0]
    return protocol.OK


def _inside(data: str, path: str, given: str) -> str:
    """The path below the data directory that a client means. Raises WalgError when it leads out of it."""
    if not os.path.isabs(path):
        path = os.path.join(data, path)
    path = os.path.normpath(path)
    roots = [data, os.path.realpath(data)]
    roots += [os.path.realpath(os.path.join(data, name)) for name in ("pg_wal", "pg_xlog")]
    if not any(path.startswith(root.rstrip("/") + "/") for root in roots):
        raise WalgError(f"{given!r} is outside of PGDATA ({data}); such a path is refused")
    if path.startswith(os.path.join(data, "pg_wal") + "/") and not os.path.isdir(os.path.join(data, "pg_wal")):
        path = path.replace("/pg_wal/", "/pg_xlog/", 1)
    return path


def _receive(connection: socket.socket, size: int) -> bytes:
    """`size` bytes, fewer when the client closes."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return data
        data += piece
    return data


def _answer(connection: socket.socket, reply: bytes) -> None:
    try:
        connection.sendall(reply)
    except OSError as error:
        log.debug(f"the client did not wait for its answer: {error}")


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody serves any more. Raises WalgError for a living daemon and for other files."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise WalgError(f"{path} exists and is no socket; it is not touched", hint="name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)
            return
        except OSError as error:
            raise WalgError(f"{path} cannot be examined: {error.strerror}") from error
    raise WalgError(f"another daemon serves {path} already", hint="stop it first, or name another path")
