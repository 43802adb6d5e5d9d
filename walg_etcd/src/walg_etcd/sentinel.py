"""The sentinel of an etcd backup (spec/fdb-etcd.md 2.1)."""

from __future__ import annotations

from typing import Any

from walg_core.backups import gojson, times
from walg_core.backups.sentinels import SentinelForm
from walg_core.streams.engine import Marks
from walg_core.streams.push import Pushed

FORM = SentinelForm()


def sentinel(pushed: Pushed, marks: Marks) -> dict[str, Any]:
    """All keys in the original's order; `SnapshotSize` is what the storage holds."""
    out: dict[str, Any] = {
        "StartLocalTime": times.format_local(pushed.start_ns),
        "IsPermanent": marks.permanent,
        "SnapshotSize": pushed.stored_size,
    }
    if marks.user_data is not None:
        out["UserData"] = gojson.user_data(marks.user_data)
    return out
