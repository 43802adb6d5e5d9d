"""Reports of `wal-g doctor` and of backup verification."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """One health check's result; `hint` says what to do when it is not `ok`."""

    name: str
    status: Literal["ok", "warning", "failed"]
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found while verifying a backup; `subject` is the object or file concerned."""

    severity: Literal["info", "warning", "error"]
    subject: str
    message: str
