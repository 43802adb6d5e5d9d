"""Where to log in and as whom: from settings to asyncssh's options. Touches no network."""

import os
from collections import namedtuple

from walg_core.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

    from walg_core.settings.config import Config

    class Target(NamedTuple):
        """A server, a directory on it and how to log in. `timeout` and `silence` are in seconds."""

        host: str
        port: int
        user: str
        root: str
        password: str | None
        key_path: str | None
        passphrase: str | None
        known_hosts: str | None
        check_host_key: bool
        timeout: float
        silence: float
else:
    Target = namedtuple(
        "Target",
        "host port user root password key_path passphrase known_hosts check_host_key timeout silence",
        module=__name__,
    )

# The fastest that every server of the last ten years has; the rest of the library's list follows.
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"


def read(config: "Config", prefix: str) -> Target:
    """The target that the settings name. Raises ConfigError that names the setting."""
    host, port, user, root = parse(prefix)
    given: int | None = config.get("SSH_PORT")
    port = given if given is not None else port or 22
    if not 0 < port < 65536:
        raise ConfigError(f"SSH_PORT is {port}: a port is between 1 and 65535")
    key_path = config.get("SSH_PRIVATE_KEY_PATH")
    known_hosts = config.get("SSH_KNOWN_HOSTS")
    for name, path in (("SSH_PRIVATE_KEY_PATH", key_path), ("SSH_KNOWN_HOSTS", known_hosts)):
        _check_readable(name, path)
    if key_path:
        _check_mode(key_path)
    return Target(
        host,
        port,
        config.get("SSH_USERNAME") or user or _login_name(),
        root,
        config.get("SSH_PASSWORD"),
        key_path,
        config.get("SSH_PRIVATE_KEY_PASSPHRASE"),
        known_hosts,
        config.get("SSH_HOST_KEY_CHECK"),
        config.get("SSH_CONNECT_TIMEOUT"),
        config.get("WALG_STORAGE_STALL_TIMEOUT") or 0.0,
    )


def parse(prefix: str) -> "tuple[str, int | None, str, str]":
    """`ssh://user@host:port/path` → host, port or None, user or "", absolute path without a slash at its end."""
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(prefix)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"WALG_SSH_PREFIX is '{prefix}': {error}", hint="as in ssh://host:22/path") from error
    if not parts.scheme or not parts.hostname:
        raise ConfigError(
            f"WALG_SSH_PREFIX is '{prefix}': missing url scheme={parts.scheme} and/or host={parts.hostname or ''}",
            hint="expected something like ssh://host/absolute/path",
        )
    if parts.password:
        raise ConfigError("WALG_SSH_PREFIX has a password in it", hint="give it by SSH_PASSWORD")
    path = "/".join(part for part in unquote(parts.path).split("/") if part)
    return parts.hostname, port, unquote(parts.username or ""), "/" + path if path else ""


def options(target: Target) -> "dict[str, Any]":
    """asyncssh's options. Raises ConfigError for a key that cannot be read."""
    made: dict[str, Any] = {
        "username": target.user,
        "config": None,
        "connect_timeout": target.timeout,
        "login_timeout": target.timeout,
        "encryption_algs": CIPHERS,
        "compression_algs": ["none", "zlib@openssh.com"],
        "password": target.password,
    }
    if target.silence:
        # A peer that answers nothing is given up within the time that a stalled call may take.
        made |= {"keepalive_interval": max(0.2, target.silence / 4), "keepalive_count_max": 3}
    if target.key_path:
        made |= {"client_keys": [_private_key(target)], "agent_path": None}
    elif target.password is not None:
        made |= {"client_keys": None, "agent_path": None}
    if target.check_host_key:
        made["known_hosts"] = _known_hosts(target)
    else:
        from walg_core.observe import log

        log.warning(f"SSH_HOST_KEY_CHECK is false: nobody checks that {target.host} is the server it says it is")
        made["known_hosts"] = None
    return made


def known_hosts_files(target: Target) -> "list[str]":
    """The files of trusted host keys that exist."""
    if target.known_hosts:
        return [target.known_hosts]
    usual = (os.path.expanduser("~/.ssh/known_hosts"), "/etc/ssh/ssh_known_hosts")
    return [path for path in usual if os.access(path, os.R_OK)]


def _known_hosts(target: Target) -> "Any":
    import asyncssh

    try:
        return asyncssh.read_known_hosts(known_hosts_files(target))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the host keys of SSH_KNOWN_HOSTS cannot be read: {error}") from error


def _private_key(target: Target) -> "Any":
    import asyncssh

    path = target.key_path or ""
    try:
        return asyncssh.read_private_key(path, target.passphrase)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, OSError) as error:
        if "passphrase" in str(error).lower() or isinstance(error, asyncssh.KeyEncryptionError):
            what = "is not its passphrase" if target.passphrase else "is not set, and the key is passphrase protected"
            raise ConfigError(
                f"parse SSH private key {path}: SSH_PRIVATE_KEY_PASSPHRASE {what}",
                hint="set SSH_PRIVATE_KEY_PASSPHRASE, or make a key without a passphrase for this",
            ) from error
        raise ConfigError(
            f"parse SSH private key: SSH_PRIVATE_KEY_PATH {path} is not a private key: {error}",
            hint="it is the file without .pub that ssh-keygen makes",
        ) from error


def _check_readable(name: str, path: str | None) -> None:
    if not path:
        return
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f"{name}: cannot read {path}: {error.strerror}",
            hint="check the path, and that the user running wal-g owns the file",
        ) from error


def _check_mode(path: str) -> None:
    mode = os.stat(path).st_mode & 0o777
    if mode & 0o077:
        from walg_core.observe import log

        log.warning(
            f"the private key {path} of SSH_PRIVATE_KEY_PATH is open to others (mode {mode:04o}): "
            f"chmod 0600 it, in a directory of mode 0700"
        )


def _login_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
