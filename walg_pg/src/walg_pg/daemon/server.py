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
from collections.abc import Callable

from walg_core.context import Context
from walg_core.errors import ConfigError, ObjectNotFound, WalgError
from walg_core.observe import log

from walg_pg.daemon import protocol
from walg_pg.daemon.notify import Notifier
from walg_pg.journal.fetch import fetch
from walg_pg.journal.prefetch import prefetch
from walg_pg.journal.push import push

BACKLOG = 128
PATIENCE = 30.0
"""Seconds that running requests get to finish after a stop signal."""
IDLE_LIMIT = 300.0
"""A connection without a request for this long (seconds) is closed."""


class Daemon:
    """Serves one socket until `stop`. One thread a connection."""

    def __init__(self, context: Context, path: str, notifier: Notifier | None = None) -> None:
        data = context.config.get("PGDATA")
        if not data:
            raise ConfigError("the daemon needs PGDATA", hint="set PGDATA to the cluster's data directory")
        self.context = context
        self.path = path
        self.data = os.path.abspath(data)
        self.timeout: float = context.config.get("WALG_DAEMON_WAL_UPLOAD_TIMEOUT")
        self.notifier = notifier or Notifier(os.environ.get("NOTIFY_SOCKET"))
        self._listener: socket.socket | None = None
        self._stopping = threading.Event()
        self._busy = 0
        self._lock = threading.Lock()

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
            self.context.write_storage()
        except WalgError as error:
            log.error(f"the storage is not usable now, requests fail until it is: {error}")
        self.notifier.send("READY=1")
        self.notifier.start_watchdog()
        log.info(f"wal-g daemon listens on {self.path}")
        try:
            while not self._stopping.is_set():
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
        """Forget connections and keys, so that the next request opens them anew (rotated credentials)."""
        log.info("reloading: storages and keys are opened anew by the next request")
        self.notifier.send("RELOADING=1")
        self.context.close()
        self.notifier.send("READY=1")

    def _shut_down(self, listener: socket.socket) -> None:
        self.notifier.send("STOPPING=1")
        self.notifier.stop()
        listener.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            log.debug(f"{self.path} is gone already")
        deadline = time.monotonic() + PATIENCE
        while self._busy and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._busy:
            log.warning(f"{self._busy} requests did not finish within {PATIENCE:.0f} s and are given up")

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
        with self._lock:
            self._busy += 1
        try:
            reply = self._reply(kind, body)
        finally:
            with self._lock:
                self._busy -= 1
        _answer(connection, reply)
        return False

    def _reply(self, kind: int, body: bytes) -> bytes:
        try:
            if kind == protocol.PUSH:
                return self._push(body.decode())
            if kind == protocol.FETCH:
                return self._fetch(protocol.parse_arguments(body))
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

    def _push(self, name: str) -> bytes:
        path = self._inside(name if "/" in name else os.path.join("pg_wal", name), name)
        log.debug(f"wal-push {path}")
        return self._within_time(lambda: push(self.context, path), f"wal-push {name}")

    def _fetch(self, words: list[str]) -> bytes:
        if len(words) != 2:
            raise protocol.BadFrame(f"wal-fetch has {len(words)} arguments instead of 2")
        destination = self._inside(words[1], words[1])
        log.debug(f"wal-fetch {words[0]} {destination}")
        fetch(self.context, words[0], destination, start_prefetch=self._start_prefetch)
        return protocol.OK

    def _start_prefetch(self, name: str, destination: str, target: str) -> None:
        def work() -> None:
            try:
                prefetch(self.context, name, destination, target)
            except (WalgError, OSError) as error:
                log.warning(f"prefetching after {name} failed: {error}")

        threading.Thread(target=work, name="prefetch", daemon=True).start()

    def _within_time(self, work: Callable[[], None], what: str) -> bytes:
        """Run `work`, but answer with an error when it takes longer than the limit; it may still finish later."""
        outcome: list[BaseException | None] = []

        def run() -> None:
            try:
                work()
                outcome.append(None)
            except BaseException as error:
                outcome.append(error)

        worker = threading.Thread(target=run, daemon=True)
        worker.start()
        worker.join(self.timeout if self.timeout > 0 else None)
        if not outcome:
            raise WalgError(
                f"{what} did not finish within {self.timeout:g} s", hint="see WALG_DAEMON_WAL_UPLOAD_TIMEOUT"
            )
        if outcome[0] is not None:
            raise outcome[0]
        return protocol.OK

    def _inside(self, path: str, given: str) -> str:
        """The path below PGDATA that a client means. Raises WalgError when it leads out of it."""
        if not os.path.isabs(path):
            path = os.path.join(self.data, path)
        path = os.path.normpath(path)
        roots = [self.data, os.path.realpath(self.data)]
        roots += [os.path.realpath(os.path.join(self.data, name)) for name in ("pg_wal", "pg_xlog")]
        if not any(path.startswith(root.rstrip("/") + "/") for root in roots):
            raise WalgError(f"{given!r} is outside of PGDATA ({self.data}); such a path is refused")
        if path.startswith(os.path.join(self.data, "pg_wal") + "/") and not os.path.isdir(
            os.path.join(self.data, "pg_wal")
        ):
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
