"""Times as integers: nanoseconds since the epoch, UTC; and their RFC 3339 forms as Go writes and reads them.

Writing them is part of cold commands: `datetime` and `re` are imported by whoever reads one.
"""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

SECOND = 1_000_000_000
ZERO = -62_135_596_800 * SECOND
"""Go's zero time, 0001-01-01T00:00:00Z."""

_RFC3339 = r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?\s*([Zz]|[+-]\d\d:?\d\d)?\Z"


def now() -> int:
    """The current time, rounded up to a whole microsecond (spec/stream-backups.md 3)."""
    return -(-time.time_ns() // 1000) * 1000


def _fraction(nanoseconds: int, digits: int) -> str:
    text = f"{nanoseconds:09d}"[:digits].rstrip("0")
    return f".{text}" if text else ""


def _clock(moment: time.struct_time) -> str:
    return (
        f"{moment.tm_year:04d}-{moment.tm_mon:02d}-{moment.tm_mday:02d}"
        f"T{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}"
    )


def format_utc(ns: int, digits: int = 9) -> str:
    """`2026-11-22T12:00:05.165857152Z`: at most `digits` of the fraction, trailing zeros dropped."""
    seconds, rest = divmod(ns, SECOND)
    return f"{_clock(time.gmtime(seconds))}{_fraction(rest, digits)}Z"


def format_local(ns: int, digits: int = 9) -> str:
    """The same in this host's zone: `2026-11-22T15:00:05.165857152+03:00`, `Z` where the offset is zero."""
    seconds, rest = divmod(ns, SECOND)
    moment = time.localtime(seconds)
    offset = moment.tm_gmtoff // 60
    zone = "Z" if not offset else f"{'+' if offset > 0 else '-'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    return f"{_clock(moment)}{_fraction(rest, digits)}{zone}"


def format_rfc850(ns: int, *, local: bool = False) -> str:
    """`Sunday, 22-Nov-26 12:00:05 UTC`, for pretty tables."""
    moment = (time.localtime if local else time.gmtime)(ns // SECOND)
    return f"{time.strftime('%A, %d-%b-%y %H:%M:%S', moment)} {moment.tm_zone if local else 'UTC'}"


def _matched(text: str) -> "re.Match[str] | None":
    import re

    return re.match(_RFC3339, text.strip())


def parse(text: str) -> int:
    """Nanoseconds of an RFC 3339 text; without a zone it counts as UTC. Raises ValueError."""
    from datetime import UTC, datetime

    match = _matched(text)
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
            tzinfo=UTC,
        )
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: {error}") from None
    difference = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = difference.days * 86400 + difference.seconds
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "")
        offset = (int(digits[:2]) * 60 + int(digits[2:])) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * SECOND + int((fraction or "").ljust(9, "0"))


def has_zone(text: str) -> bool:
    """Whether a text that `parse` accepts names its zone."""
    match = _matched(text)
    return bool(match and match.group(8))


def backup_stamp(ns: int) -> str:
    """`YYYYMMDDTHHMMSSZ` (UTC, truncated to seconds): the time in the names of stream backups."""
    return _clock(time.gmtime(ns // SECOND)).replace("-", "").replace(":", "") + "Z"


def parse_stamp(text: str) -> int:
    """The inverse of `backup_stamp`. Raises ValueError."""
    from calendar import timegm

    return timegm(time.strptime(text, "%Y%m%dT%H%M%SZ")) * SECOND
