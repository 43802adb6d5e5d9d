"""Where WAL lies on this host and in the archive (spec/postgres-wal.md 2, 3.4)."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.settings.config import Config

FOLDER = "wal_005"


def segment_size(config: "Config") -> int:
    """Bytes of one WAL segment (`WALG_PG_WAL_SIZE`). Raises ConfigError for what PostgreSQL cannot have."""
    from walg_core.errors import ConfigError

    mebibytes: int = config.get("WALG_PG_WAL_SIZE")
    if mebibytes < 1 or mebibytes > 1024 or mebibytes & (mebibytes - 1):
        raise ConfigError(f"WALG_PG_WAL_SIZE is {mebibytes}: expected a power of two from 1 to 1024 (MiB)")
    return mebibytes << 20


def wal_directory(config: "Config", near: str = "") -> str | None:
    """`pg_wal` (or `pg_xlog`) of PGDATA; without PGDATA the directory `near` when it has an `archive_status`.

    None when neither is known: state of two clusters must never meet in a shared temporary directory
    (spec/postgres-wal.md 14, item 3).
    """
    data = config.get("PGDATA")
    if data:
        for name in ("pg_wal", "pg_xlog"):
            path = os.path.join(data, name)
            if os.path.isdir(path):
                return path
    if near and os.path.isdir(os.path.join(near, "archive_status")):
        return near
    return None


def data_folder(wal: str) -> str:
    """`walg_data` below the WAL directory: unfinished deltas."""
    return os.path.join(wal, "walg_data")


def marker_folder(wal: str) -> str:
    """Where markers of background uploads lie."""
    return os.path.join(wal, "walg_data", "walg_archive_status")


def read_control(data: str) -> "tuple[int, int, int] | None":
    """`(system identifier, checkpoint LSN, timeline)` of `global/pg_control`, None when it cannot be read.

    Layout: spec/postgres-wal.md 9.2.
    """
    try:
        with open(os.path.join(data, "global", "pg_control"), "rb") as file:
            head = file.read(64)
    except OSError:
        return None
    if len(head) < 64:
        return None
    version = int.from_bytes(head[8:12], "little")
    at = 48 if version >= 1100 else 56
    return (
        int.from_bytes(head[:8], "little"),
        int.from_bytes(head[32:40], "little"),
        int.from_bytes(head[at : at + 4], "little"),
    )
