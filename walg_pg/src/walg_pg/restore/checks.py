"""Checks at the end of a restore: complete, and all of one backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from walg_core.errors import EngineError, IntegrityError
from walg_core.io.destination import components

from walg_pg.lsn import format_lsn, parse_lsn
from walg_pg.restore.chain import UTILITY, Link, bare

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from walg_core.io.destination import Destination


def everything_there(root: Destination, link: Link, left_out: AbstractSet[str]) -> None:
    """Every wanted entry of the newest backup's file list exists. Raises IntegrityError with the first missing ones.

    `left_out`: entries (links, devices) that were deliberately not restored.
    """
    if link.files is None or link.wanted is None:
        return
    missing = []
    for name in link.wanted:
        if bare(name) in UTILITY or name in left_out:
            continue
        try:
            found = root.stat(components(name))
        except FileNotFoundError:
            found = None
        if found is None:
            missing.append(name)
    # Links of an earlier, interrupted run are not in `left_out`; they cannot be told from lost files otherwise.
    if missing:
        missing.sort()
        raise IntegrityError(
            f"{len(missing)} entries of backup {link.name} did not come out of its archives: "
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}",
            hint="the archive is damaged: restore another backup; this directory is not complete and cannot be started",
        )


def belongs(root: Destination, link: Link, control: bytes | None) -> None:
    """The control file and the backup label are those of this backup. Raises IntegrityError."""
    if control is None:
        raise IntegrityError(f"backup {link.name} brought no global/pg_control: it cannot be started")
    if len(control) < 512:
        raise IntegrityError(f"global/pg_control of backup {link.name} is cut to {len(control)} bytes")
    found = int.from_bytes(control[:8], "little")
    expected = link.sentinel.system_identifier
    if expected is not None and found != expected:
        raise IntegrityError(
            f"global/pg_control is of system {found}, but backup {link.name} is of system {expected}: parts are swapped"
        )
    checkpoint = int.from_bytes(control[32:40], "little")
    start, finish = link.sentinel.start_lsn, link.sentinel.finish_lsn
    if finish and start and not (start <= checkpoint <= finish):
        raise IntegrityError(
            f"global/pg_control has its checkpoint at {format_lsn(checkpoint)}, outside backup {link.name} "
            f"({format_lsn(start)} to {format_lsn(finish)}): the part belongs to another backup"
        )
    _check_label(root, link)


def _check_label(root: Destination, link: Link) -> None:
    label = root.read_file(components("backup_label"), 1 << 16)
    start = link.sentinel.start_lsn
    if label is None:
        if start is not None and link.sentinel.pg_version >= 90600:
            raise IntegrityError(
                f"backup {link.name} brought no backup_label: recovery would start at the wrong place",
            )
        return
    first = label.partition(b"\n")[0].decode("utf-8", "replace")
    words = first.removeprefix("START WAL LOCATION: ").split(" ")
    try:
        found = parse_lsn(words[0])
    except ValueError:
        raise IntegrityError(f"backup_label of {link.name} starts with {first[:80]!r}") from None
    if start is not None and found != start:
        raise IntegrityError(
            f"backup_label starts at {format_lsn(found)}, but backup {link.name} at {format_lsn(start)}: "
            "the part belongs to another backup"
        )


def open_destination(path: str, *, fsync: bool) -> Destination:
    """The directory to restore into, made where it is missing. Raises EngineError."""
    from walg_core.io.destination import Destination

    try:
        return Destination(path, fsync=fsync)
    except OSError as error:
        raise EngineError(
            f"cannot restore into {path}: {error.strerror}",
            hint="give an empty directory, or one that this user may create; nothing was changed",
        ) from error


def refuse_non_empty(root: Destination) -> None:
    """Raises EngineError when the destination has entries."""
    entries = root.entries()
    if entries:
        raise EngineError(
            f"the directory {root.path} is not empty ({len(entries)} entries, {min(entries)} first)",
            hint="restore into an empty or missing directory; nothing was changed",
        )
