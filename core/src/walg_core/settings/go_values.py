"""Typed values of configuration files as Go's casts write them (spec/config.md 2, and its YAML and TOML readers)."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any


def moment(when: datetime) -> str:
    """Go's default text of a time: `2024-01-02 03:04:05 +0000 UTC`."""
    fraction = f".{when.microsecond:06}".rstrip("0") if when.microsecond else ""
    offset = when.strftime("%z")
    zone = "UTC" if offset == "+0000" else offset
    return f"{when:%Y-%m-%d %H:%M:%S}{fraction} {offset} {zone}"


def plain(value: Any) -> Any:
    """The same value with TOML's dates and times as text; those without a zone stay as they are written."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, datetime) and value.tzinfo is not None:
        return moment(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return value
