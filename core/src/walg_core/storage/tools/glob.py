"""Shell patterns over a storage's folders and objects, one segment at a time (spec/storages.md 6)."""

import re
from collections.abc import Iterator

from walg_core.errors import WalgError
from walg_core.storage.api import Storage


def pattern_to_regex(pattern: str) -> "re.Pattern[str]":
    """One segment with `*`, `?`, `[a-z]`, `[^a-z]`, `\\x`. Raises WalgError for a malformed one."""
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            out += ".*"
        elif char == "?":
            out += "."
        elif char == "\\" and at < len(pattern):
            out += re.escape(pattern[at])
            at += 1
        elif char == "[":
            end = pattern.find("]", at + (2 if pattern[at : at + 1] == "^" else 1))
            if end < 0:
                raise WalgError(f"syntax error in pattern {pattern!r}: '[' is never closed")
            negated = pattern[at] == "^"
            inside = pattern[at + negated : end].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
            out += f"[{'^' if negated else ''}{inside}]"
            at = end + 1
        else:
            out += re.escape(char)
    try:
        return re.compile(out + r"\Z", re.DOTALL)
    except re.error as error:
        raise WalgError(f"syntax error in pattern {pattern!r}: {error}") from error


def folders(storage: Storage, pattern: str) -> Iterator[str]:
    """Matching folders, each with its final slash; `/` alone is the root ("")."""
    segments = [segment for segment in pattern.split("/") if segment]
    yield from _folders(storage, "", segments)


def _folders(storage: Storage, base: str, segments: list[str]) -> Iterator[str]:
    if not segments:
        yield base
        return
    regex = pattern_to_regex(segments[0])
    for each in storage.list_dirs(base):
        if regex.match(each[len(base) : -1]):
            yield from _folders(storage, each, segments[1:])


def objects(storage: Storage, pattern: str) -> Iterator[str]:
    """Keys of matching objects."""
    segments = [segment for segment in pattern.split("/") if segment]
    if not segments:
        return
    regex = pattern_to_regex(segments[-1])
    for folder in _folders(storage, "", segments[:-1]):
        for info in storage.list_dir(folder):
            if regex.match(info.key[len(folder) :]):
                yield info.key
