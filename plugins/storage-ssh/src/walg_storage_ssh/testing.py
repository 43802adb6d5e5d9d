"""An SSH server for tests, in a thread of the test's own process."""

import asyncio
import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh

USER = "walg"
PASSWORD = "emulator"  # noqa: S105 - of a server that lives as long as a test


class _Login(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return username == USER and password == PASSWORD


@contextlib.contextmanager
def emulator(directory: str | None = None, *, factory: Any = asyncssh.SFTPServer) -> Iterator[dict[str, str]]:
    """Starts a server; gives the settings of a storage on it, below `directory` (default: a temporary one).

    The server takes the key of `SSH_PRIVATE_KEY_PATH`, and `PASSWORD`. `factory` makes the SFTP side: a class derived
    from `asyncssh.SFTPServer` may fail on purpose.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(directory or f"{scratch}/archive")
        root.mkdir(exist_ok=True)
        host, user = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
        user.write_private_key(f"{scratch}/key")
        os.chmod(f"{scratch}/key", 0o600)
        user.write_public_key(f"{scratch}/authorized")
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True, name="ssh emulator")
        thread.start()
        server = asyncio.run_coroutine_threadsafe(_start(host, f"{scratch}/authorized", factory), loop).result(30)
        port = server.get_port()
        Path(scratch, "known_hosts").write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
        try:
            yield {
                "WALG_SSH_PREFIX": f"ssh://127.0.0.1{root}",
                "SSH_PORT": str(port),
                "SSH_USERNAME": USER,
                "SSH_PRIVATE_KEY_PATH": f"{scratch}/key",
                "SSH_KNOWN_HOSTS": f"{scratch}/known_hosts",
            }
        finally:
            asyncio.run_coroutine_threadsafe(_stop(server), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


async def _start(host: asyncssh.SSHKey, authorized: str, factory: Any) -> asyncssh.SSHAcceptor:
    return await asyncssh.create_server(
        _Login, "127.0.0.1", 0, server_host_keys=[host], authorized_client_keys=authorized, sftp_factory=factory
    )


async def _stop(server: asyncssh.SSHAcceptor) -> None:
    server.close()
    await server.wait_closed()
    here = asyncio.current_task()
    rest = [task for task in asyncio.all_tasks() if task is not here]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
