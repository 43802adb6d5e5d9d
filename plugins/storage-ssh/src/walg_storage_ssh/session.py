"""One SSH connection with one SFTP session, in an event loop of its own thread.

It is made by the first call that needs it, and made anew after it was lost. asyncssh runs inside that thread only;
everybody else calls `run`.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import asyncssh
from walg_core.errors import AccessDenied, StorageError, TransientError, WalgError

from walg_storage_ssh import failures
from walg_storage_ssh.target import Target, known_hosts_files, options

Result = TypeVar("Result")


class Session:
    """`run` may be called from several threads at once."""

    def __init__(self, target: Target, where: str) -> None:
        self.target = target
        self.where = where
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._connecting: asyncio.Lock | None = None
        self._client: asyncssh.SFTPClient | None = None
        self._client_loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncssh.SSHClientConnection | None = None

    def run(self, work: Callable[[asyncssh.SFTPClient], Awaitable[Result]], key: str, doing: str) -> Result:
        """The result of `work`, given the SFTP session. Raises StorageError, ConfigError."""
        future: Future[Result] = asyncio.run_coroutine_threadsafe(self._guarded(work, key, doing), self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def later(self, work: Any) -> None:
        """Run a coroutine in the session's thread; nobody waits for it."""
        asyncio.run_coroutine_threadsafe(work, self._running())

    def close(self) -> None:
        """End the connection and the thread. Waits at most two seconds for the server."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None or self._pid != os.getpid():
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(3)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)

    async def _end(self) -> None:
        connection, self._client, self._connection = self._connection, None, None
        if connection:
            connection.close()
            with contextlib.suppress(TimeoutError, asyncssh.Error, OSError):
                await asyncio.wait_for(connection.wait_closed(), 2)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                # A forked child has neither the thread nor a right to the connection.
                self._pid = os.getpid()
                self._client = self._connection = self._connecting = None
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._serve, args=(self._loop,), daemon=True, name="ssh")
                self._thread.start()
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()

    async def _guarded(self, work: Callable[[asyncssh.SFTPClient], Awaitable[Result]], key: str, doing: str) -> Result:
        client = await self._connected()
        try:
            return await work(client)
        except WalgError:
            raise
        except Exception as error:
            if isinstance(error, failures.LOST):
                self._forget(client)
            raise failures.translate(error, key, doing, self.where) from error

    async def _connected(self) -> asyncssh.SFTPClient:
        """The session of this loop: one that a closed loop still had under way is of no use here."""
        here = asyncio.get_running_loop()
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            client = self._client
            if client is None or self._client_loop is not here:
                client = await self._connect()
                self._client, self._client_loop = client, here
            return client

    def _forget(self, client: asyncssh.SFTPClient) -> None:
        """The next call connects anew."""
        if self._client is client:
            connection, self._client, self._connection = self._connection, None, None
            if connection:
                connection.abort()

    async def _connect(self) -> asyncssh.SFTPClient:
        target = self.target
        peer = _Peer(self)
        given = options(target)
        try:
            async with asyncio.timeout(2 * target.timeout or None):
                connection = await asyncssh.connect(target.host, target.port, client_factory=lambda: peer, **given)
                self._connection = connection
                return await connection.start_sftp_client(path_errors="surrogateescape")
        except asyncssh.HostKeyNotVerifiable as error:
            raise peer.explain() from error
        except (asyncssh.Error, OSError, ValueError) as error:
            if self._connection:
                self._connection.abort()
                self._connection = None
            raise failures.connecting(error, self.where, target.timeout) from error

    def lost(self, peer: "_Peer") -> None:
        """The connection is gone, by whatever cause."""
        if self._connection is not None and self._connection is peer.connection:
            self._client = self._connection = None


class _Peer(asyncssh.SSHClient):
    """What asyncssh tells about the connection; remembers a host key that was not trusted."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._refused: asyncssh.SSHKey | None = None
        self.connection: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connection = conn

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        self._session.lost(self)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        self._refused = key
        return False

    def explain(self) -> StorageError:
        target = self._session.target
        key = self._refused
        shown = f" ({key.get_algorithm()} {key.get_fingerprint()})" if key else ""
        name = target.host if target.port == 22 else f"[{target.host}]:{target.port}"
        files = " or ".join(known_hosts_files(target)) or "any file of known hosts"
        if self._known():
            return AccessDenied(
                f"{self._session.where}: the server's host key{shown} is not the one that {files} has for {name}",
                hint="somebody may be listening in. If the server was set up anew, remove the old key with "
                f"`ssh-keygen -R '{name}'` and add the new one after comparing it",
            )
        return AccessDenied(
            f"{self._session.where}: the server's host key{shown} is not in {files}",
            hint=f"compare it on the server, then `ssh-keyscan -p {target.port} {target.host} >> ~/.ssh/known_hosts` "
            "(or another file, named by SSH_KNOWN_HOSTS); SSH_HOST_KEY_CHECK=false trusts whoever answers",
        )

    def _known(self) -> bool:
        """Whether the files know other keys of this host."""
        target = self._session.target
        found = asyncssh.match_known_hosts(known_hosts_files(target), target.host, "", target.port)
        return bool(found[0])


def stopped_early(key: str, left: int, where: str) -> TransientError:
    """For a file that ends before the size that the server announced."""
    return TransientError(f"'{key}' ended {left} bytes early in {where}", key=key)
