"""Times as integers: nanoseconds since the epoch, UTC; and their RFC 3339 forms as Go writes and reads them."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

SECOND = 1_000_000_000
ZERO = -62_135_596_800 * SECOND
"""Go's zero time, 0001-01-01T00:00:00Z."""

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?\s*([Zz]|[+-]\d\d:?\d\d)?\Z"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - datetime.UTC is the same object


def now() -> int:
    """The current time, rounded up to a whole microsecond (spec/stream-backups.md 3)."""
    return -(-time.time_ns() // 1000) * 1000


def _fraction(nanoseconds: int, digits: int) -> str:
    text = f"{nanoseconds:09d}"[:digits].rstrip("0")
    return f".{text}" if text else ""


def format_utc(ns: int, digits: int = 9) -> str:
    """`2026-11-22T12:00:05.165857152Z`: at most `digits` of the fraction, trailing zeros dropped."""
    seconds, rest = divmod(ns, SECOND)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment.year:04d}{moment:-%m-%dT%H:%M:%S}{_fraction(rest, digits)}Z"


def format_local(ns: int, digits: int = 9) -> str:
    """The same in this host's zone: `2026-11-22T15:00:05.165857152+03:00`, `Z` where the offset is zero."""
    seconds, rest = divmod(ns, SECOND)
    moment = (_EPOCH + timedelta(seconds=seconds)).astimezone()
    offset = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
    zone = "Z" if not offset else f"{'+' if offset > 0 else '-'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    return f"{moment.year:04d}{moment:-%m-%dT%H:%M:%S}{_fraction(rest, digits)}{zone}"


def format_rfc850(ns: int, *, local: bool = False) -> str:
    """`Sunday, 22-Nov-26 12:00:05 UTC`, for pretty tables."""
    moment = _EPOCH + timedelta(seconds=ns // SECOND)
    if local:
        moment = moment.astimezone()
    return f"{moment:%A, %d-%b-%y %H:%M:%S} {moment.tzname() if local else 'UTC'}"


def parse(text: str) -> int:
    """Nanoseconds of an RFC 3339 text; without a zone it counts as UTC. Raises ValueError."""
    match = _RFC3339.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a time of the form 2026-11-22T12:00:05Z")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour),
            int(minute),
            int(second or 0),
            tzinfo=timezone.utc,  # noqa: UP017
        )
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: {error}") from None
    difference = moment - _EPOCH
    seconds = difference.days * 86400 + difference.seconds
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "")
        offset = (int(digits[:2]) * 60 + int(digits[2:])) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * SECOND + int((fraction or "").ljust(9, "0"))


def has_zone(text: str) -> bool:
    """Whether a text that `parse` accepts names its zone."""
    match = _RFC3339.match(text.strip())
    return bool(match and match.group(8))


def backup_stamp(ns: int) -> str:
    """`YYYYMMDDTHHMMSSZ` (UTC, truncated to seconds): the time in the names of stream backups."""
    return f"{_EPOCH + timedelta(seconds=ns // SECOND):%Y%m%dT%H%M%SZ}"


def parse_stamp(text: str) -> int:
    """The inverse of `backup_stamp`. Raises ValueError."""
    moment = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)  # noqa: UP017
    return int((moment - _EPOCH).total_seconds()) * SECOND
