"""What notification hooks receive."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObjectWritten:
    """One object became durable. `size` is the stored size in bytes."""

    storage: str
    key: str
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BackupEvent:
    """A backup about to start (`name` may be empty then) or just finished."""

    engine: str
    name: str
    storage: str


@dataclass(frozen=True, slots=True)
class RestoreEvent:
    """A restore that finished into `destination`."""

    engine: str
    name: str
    destination: str
