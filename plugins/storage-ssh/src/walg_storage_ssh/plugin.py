"""What the SSH storage declares (spec/storages.md 4.2)."""

from walg_core.declarations import StorageType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import prefix_setting, storage_setting

SETTINGS = (
    prefix_setting("SSH", "archive behind SSH, as ssh://host/absolute/path or ssh://user@host:port/absolute/path"),
    storage_setting("SSH_PORT", "port; 22 unless the prefix has one", kind="int"),
    storage_setting("SSH_USERNAME", "user (default: the prefix's, else the one running wal-g)"),
    storage_setting("SSH_PASSWORD", "password", secret=True),
    storage_setting("SSH_PRIVATE_KEY_PATH", "file of the private key; tried before the password", kind="path"),
    storage_setting("SSH_PRIVATE_KEY_PASSPHRASE", "passphrase of that key", secret=True),
    storage_setting(
        "SSH_KNOWN_HOSTS",
        "file of trusted host keys (default: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts)",
        kind="path",
    ),
    storage_setting(
        "SSH_HOST_KEY_CHECK",
        "refuse servers whose host key is not trusted; false trusts whoever answers, with a warning",
        kind="bool",
        default="true",
    ),
    storage_setting(
        "SSH_CONNECT_TIMEOUT", "longest time for connecting and logging in", kind="duration", default="30s"
    ),
)


@hookimpl
def walg_register_storages() -> list[StorageType]:
    return [
        StorageType(
            "ssh",
            prefix="WALG_SSH_PREFIX",
            factory="walg_storage_ssh.storage:create",
            schemes=("ssh", "sftp"),
            settings=SETTINGS,
            order=7,
        )
    ]
