"""The sentinel of every Redis backup type (spec/redis.md 2.1)."""

from walg_core.backups import gojson, times
from walg_core.errors import IntegrityError, UsageError
from walg_core.streams.marks import Marks
from walg_core.streams.push import Pushed

from walg_redis.connection import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES = ("rdb", "aof", "rdb_ts", "aof_ts", "ts")
ZERO_TIME = "0001-01-01T00:00:00Z"
ATTACHED = "ts_data"
"""The folder of a tiered-storage part inside a backup, and the beginning of its sentinel's name."""

KEYS = (
    "BackupName", "StartLocalTime", "FinishLocalTime", "UserData", "Permanent", "DataSize", "BackupSize", "BackupType",
    "Version", "UsedMemory", "UsedMemoryRss", "MaxDBNumber", "HasTS", "TSBackupID", "TSBackupPath", "TSDataSize",
    "TSFileCount", "TSStartTime", "TSFinishTime",
)  # fmt: skip
_ALWAYS = ("StartLocalTime", "FinishLocalTime", "Permanent", "MaxDBNumber", "TSStartTime", "TSFinishTime")


def check_type(name: str) -> str:
    """Raises UsageError for an unknown `--type`."""
    if name not in TYPES:
        raise UsageError(f'invalid --type value "{name}": must be one of {", ".join(TYPES)}')
    return name


def arranged(values: "dict[str, Any]") -> "dict[str, Any]":
    """All keys that are written, in the original's order; empty ones left out where the original does."""
    defaults = {"StartLocalTime": ZERO_TIME, "FinishLocalTime": ZERO_TIME, "Permanent": False, "MaxDBNumber": 0}
    defaults |= {"TSStartTime": ZERO_TIME, "TSFinishTime": ZERO_TIME}
    merged: dict[str, Any] = {**defaults, **values}
    if merged.get("UserData") is not None:
        merged["UserData"] = gojson.user_data(merged["UserData"])
    return {key: merged[key] for key in KEYS if key in _ALWAYS or merged.get(key) not in (None, "", 0, False)}


def main_sentinel(pushed: Pushed, marks: Marks, kind: str, facts: Facts, version: str = "") -> "dict[str, Any]":
    """Of an `rdb` or `aof` backup."""
    return arranged(
        {
            "BackupName": pushed.name,
            "StartLocalTime": times.format_local(pushed.start_ns),
            "FinishLocalTime": times.format_local(pushed.finish_ns),
            "UserData": marks.user_data,
            "Permanent": marks.permanent,
            "DataSize": pushed.plain_size,
            "BackupSize": pushed.stored_size,
            "BackupType": kind,
            "Version": version,
            "UsedMemory": facts.used_memory,
            "UsedMemoryRss": facts.used_memory_rss,
            "MaxDBNumber": facts.max_db_number,
        }
    )


def tiered_sentinel(pushed: Pushed, permanent: bool, identity: str, path: str, count: int) -> "dict[str, Any]":
    """Of a tiered-storage part; `pushed.name` is its data's prefix, `count` its files."""
    start, finish = times.format_local(pushed.start_ns), times.format_local(pushed.finish_ns)
    return arranged(
        {
            "BackupName": pushed.name,
            "StartLocalTime": start,
            "FinishLocalTime": finish,
            "Permanent": permanent,
            "DataSize": pushed.plain_size,
            "BackupSize": pushed.stored_size,
            "BackupType": "ts",
            "TSBackupID": identity,
            "TSBackupPath": path,
            "TSDataSize": pushed.plain_size,
            "TSFileCount": count,
            "TSStartTime": start,
            "TSFinishTime": finish,
        }
    )


def version_pair(text: str) -> tuple[int, int]:
    """`7.0.15` → (7, 0); `8` counts as `8.0`. Raises IntegrityError."""
    parts = [*text.split("."), "0"][:2]
    if not all(part.isdigit() for part in parts):
        raise IntegrityError(f"'{text}' is not a version of the form 7.0.15")
    return int(parts[0]), int(parts[1])
