"""What asyncssh raises, as errors of our tree: what happened, and which setting to look at."""

import asyncio
import socket

import asyncssh
from walg_core.errors import (
    AccessDenied,
    NoSpace,
    ObjectNotFound,
    PermanentError,
    StorageError,
    TransientError,
    WalgError,
)

ABSENT = (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)
LOST = (
    asyncssh.ConnectionLost,
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.ChannelOpenError,
    ConnectionError,
    EOFError,
)
_FULL = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)
_PASSING = (asyncssh.SFTPFailure, asyncssh.SFTPBadMessage, asyncssh.SFTPLockConflict, asyncssh.SFTPInvalidHandle)


def translate(error: Exception, key: str, doing: str, where: str) -> Exception:
    """The error to raise for what an operation on `key` raised; errors of our own pass as they are."""
    if isinstance(error, WalgError):
        return error
    text = f"cannot {doing} '{key}' in {where}: {reason(error)}"
    if isinstance(error, ABSENT):
        return ObjectNotFound(key, where=where)
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return AccessDenied(
            text, key=key, hint="check the owner and mode of the directory on the server, and SSH_USERNAME"
        )
    if isinstance(error, _FULL):
        return NoSpace(text, key=key, hint="free space on the server; nothing partial was left behind")
    if isinstance(error, (*LOST, *_PASSING, TimeoutError, asyncio.CancelledError, OSError)):
        return TransientError(text, key=key)
    return PermanentError(text, key=key)


def connecting(error: Exception, where: str, timeout: float) -> StorageError:
    """The error to raise when no session could be had."""
    text = f"{where}: failed to connect via SSH: {reason(error)}"
    settings = "the host in WALG_SSH_PREFIX and SSH_PORT"
    if isinstance(error, asyncssh.PermissionDenied):
        return AccessDenied(
            f"{where}: the server refuses the login: {reason(error)}",
            hint="check SSH_USERNAME, SSH_PRIVATE_KEY_PATH and SSH_PASSWORD, and authorized_keys on the server",
        )
    if isinstance(error, asyncssh.ChannelOpenError):
        return PermanentError(
            f"{where}: the server gives no SFTP session: {reason(error)}", hint="is SFTP enabled there?"
        )
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
        return PermanentError(text, hint=f"check {settings}")
    if isinstance(error, (asyncssh.KeyExchangeFailed, asyncssh.ProtocolNotSupported)):
        return PermanentError(text, hint="client and server have no algorithm in common: update the older of the two")
    if isinstance(error, TimeoutError):
        text = f"{where}: no SSH session within {timeout:g} s"
        return TransientError(text, hint=f"check {settings}; SSH_CONNECT_TIMEOUT sets how long to wait")
    return TransientError(text, hint=f"check {settings}; is a SSH server listening there?")


def reason(error: Exception) -> str:
    """The library's words, in one line."""
    return " ".join(str(getattr(error, "reason", "") or error).split())[:300] or type(error).__name__
