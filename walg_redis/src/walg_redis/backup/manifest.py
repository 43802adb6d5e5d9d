"""The manifest of a multi-part AOF (Redis' aof.c): which files make up the log, in which order."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from walg_core.errors import IntegrityError


class AofFile(NamedTuple):
    """One file: its plain name, sequence, and kind `b` (base), `i` (increment) or `h` (history)."""

    name: str
    sequence: int
    kind: str


def parse(data: bytes, where: str) -> list[AofFile]:
    """The files in order. Raises IntegrityError for anything that Redis would not load; extra keys are accepted."""
    files = []
    for raw in data.decode("utf-8", "surrogateescape").split("\n"):
        line = raw.strip()
        if line and not line.startswith("#"):
            files.append(_line(line, where))
    if not files:
        raise IntegrityError(f"{where} is empty", hint="is appendonly switched on in the server?")
    return files


def _line(line: str, where: str) -> AofFile:
    try:
        words = shlex.split(line)
        pairs = dict(zip(words[::2], words[1::2], strict=True))
        found = AofFile(pairs["file"], int(pairs["seq"]), pairs["type"])
    except (ValueError, KeyError):
        raise IntegrityError(f"unexpected line format in manifest file: {line} ({where})") from None
    if found.kind not in ("b", "i", "h") or "/" in found.name or found.name in ("", ".", ".."):
        raise IntegrityError(f"unexpected line format in manifest file: {line} ({where})")
    return found
