"""One tree of errors. A class carries its exit code; an instance may carry a hint: what the reader can do next.

Only `cli/` turns these into text and an exit status (`docs/reference/exit-codes.md`).
"""


class WalgError(Exception):
    """Base of everything that walg raises on purpose.

    `hint` is one sentence that tells the person reading what to do; it is printed after the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(WalgError):
    """The command line is not of the command's form."""


class ConfigError(WalgError):
    """A setting is missing, malformed or contradicts another one. The message names the setting."""


class MissingPlugin(ConfigError):
    """What the settings ask for lives in a distribution that is not installed or is blocked."""


class Interrupted(WalgError):
    """SIGINT, SIGTERM, SIGHUP or SIGQUIT arrived; nothing half done was left visible."""


class CommandFailed(WalgError):
    """A child process given by the user or belonging to a database failed; the message has its last lines of output."""


class EngineError(WalgError):
    """The database refused, is unreachable, or is in a state in which the operation would be wrong."""


class IntegrityError(WalgError):
    """Data that was read is damaged, truncated, of the wrong kind, or not decryptable with the configured key."""


class StorageError(WalgError):
    """Base of all storage failures.

    `key` is the object concerned (relative to the storage's root), when there is one.
    """

    def __init__(self, message: str, *, key: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key = key


class ObjectNotFound(StorageError):
    """The object is not there. Never used for "could not find out"."""

    def __init__(self, key: str, *, where: str = "storage", hint: str | None = None) -> None:
        super().__init__(f"object '{key}' not found in {where}", key=key, hint=hint)


class ObjectExists(StorageError):
    """`put(..., if_absent=True)` found an object of that name; it was not changed."""

    def __init__(self, key: str, *, hint: str | None = None) -> None:
        super().__init__(f"object '{key}' exists already", key=key, hint=hint)


class AccessDenied(StorageError):
    """Credentials are wrong, expired or not sufficient. Not retried."""


class PermanentError(StorageError):
    """The storage refuses for a reason that waiting does not change (no such bucket, bad request). Not retried."""


class NoSpace(PermanentError):
    """Disk full or quota exceeded."""


class TransientError(StorageError):
    """Waiting may help: connection lost, 5xx, time-out. Retried."""


class Throttled(TransientError):
    """The storage asks for slower requests. `retry_after` (seconds) is its wish, when it named one."""

    def __init__(
        self, message: str, *, key: str | None = None, hint: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, key=key, hint=hint)
        self.retry_after = retry_after


class AbsenceUnsure(TransientError):
    """Not in the storages that answered, but others could not be asked: neither found nor known to be missing."""


class NoAliveStorage(StorageError):
    """None of the configured storages answers its health check."""
