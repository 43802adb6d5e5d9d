"""Which files a partial restore takes: shell masks (spec/postgres-backup.md 11.2)."""

from __future__ import annotations

import re
from collections.abc import Callable

from walg_core.errors import UsageError


def mask_filter(mask: str) -> Callable[[str], bool]:
    """Whether a stored name matches a shell pattern: `*` and `?` do not cross `/`; a leading slash is optional.

    Raises UsageError for a malformed pattern.
    """
    pattern = re.compile(_translate(mask.lstrip("/")), re.DOTALL)
    return lambda name: pattern.fullmatch(name.lstrip("/")) is not None


def _translate(mask: str) -> str:
    out, at = [], 0
    while at < len(mask):
        character = mask[at]
        at += 1
        if character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif character == "[":
            text, at = _set(mask, at)
            out.append(text)
        elif character == "\\":
            if at == len(mask):
                raise UsageError(f"the mask {mask!r} ends in a backslash")
            out.append(re.escape(mask[at]))
            at += 1
        else:
            out.append(re.escape(character))
    return "".join(out)


def _set(mask: str, at: int) -> tuple[str, int]:
    """A bracket expression that starts at `at`, as a regular expression, and where it ends."""
    out = ["[^/" if mask[at : at + 1] == "^" else "["]
    at += len(out[0]) > 1
    start = at
    while at < len(mask) and (mask[at] != "]" or at == start):
        if mask[at] == "\\":
            at += 1
        out.append("-" if mask[at : at + 1] == "-" and at > start else re.escape(mask[at : at + 1]))
        at += 1
    if at >= len(mask):
        raise UsageError(f"the mask {mask!r} has a '[' without its ']'")
    return "".join(out) + "]", at + 1
