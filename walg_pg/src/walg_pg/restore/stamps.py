"""Times of files as the file list has them, compared with those of tar headers (spec/postgres-backup.md 4.2, 8.3)."""

from __future__ import annotations

import calendar
from functools import lru_cache

from walg_core.errors import IntegrityError


def rounded_seconds(text: str) -> int:
    """Unix seconds of an RFC 3339 time, rounded to the nearest second (halves up). Raises IntegrityError."""
    try:
        seconds = _whole(text[:19])
        rest = text[19:]
        digits = ""
        if rest.startswith("."):
            end = 1
            while rest[end : end + 1].isdigit():
                end += 1
            digits, rest = rest[1:end], rest[end:]
        if rest not in ("Z", "z", ""):
            sign = {"+": -1, "-": 1}[rest[0]]
            seconds += sign * (int(rest[1:3]) * 3600 + int(rest[4:6]) * 60)
    except (ValueError, KeyError, IndexError) as error:
        raise IntegrityError(f"{text!r} is not a time of RFC 3339") from error
    return seconds + (1 if digits[:1] >= "5" else 0)


@lru_cache(maxsize=4096)
def _whole(text: str) -> int:
    """Seconds of `YYYY-MM-DDTHH:MM:SS` taken as UTC."""
    if len(text) != 19:
        raise ValueError(text)
    fields = (text[0:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
    year, month, day, hour, minute, second = map(int, fields)
    return calendar.timegm((year, month, day, hour, minute, second))
