"""Where a stopped replica stands, and the rule that nothing starts on it while it is changed.

From the first change until the end `global/pg_control` stands under another name, so that no server starts on a
directory that is half old and half new; a repeated run goes on from there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from walg_core.errors import EngineError
from walg_core.io.destination import components

from walg_pg.catchup.messages import PG_CONTROL, Control, read_control
from walg_pg.lsn import format_lsn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from walg_core.io.destination import Destination

    from walg_pg.journal.history import Switch

SET_ASIDE = "global/pg_control.catchup"
"""The replica's own control file while it is being changed."""
_CONTROL_SIZE = 8192


def own_control(directory: str) -> Control:
    """The state of the replica in `directory`, also after an interrupted catchup. Raises EngineError."""
    for name in (PG_CONTROL, SET_ASIDE):
        path = f"{directory}/{name}"
        try:
            with open(path, "rb") as file:
                return read_control(file.read(_CONTROL_SIZE), path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error.strerror}") from error
    raise EngineError(
        f"{directory} is not a data directory: it has no {PG_CONTROL}",
        hint="give the data directory of the stopped replica; backup-fetch makes a new one",
    )


def check_stopped(directory: str) -> None:
    """Raises EngineError when a server runs on `directory`, or looks as if."""
    if os.path.lexists(f"{directory}/postmaster.pid"):
        raise EngineError(f"{directory} has a postmaster.pid: a server runs on it", hint="stop the replica first")


def set_aside(root: Destination) -> None:
    """From here on no server starts on the directory; `finished` ends that. Raises EngineError, OSError."""
    check_stopped(root.path)
    control = root.read_file(components(PG_CONTROL), _CONTROL_SIZE)
    if control is not None:
        root.write_file(components(SET_ASIDE), control)
        root.remove(components(PG_CONTROL))


def finished(root: Destination, control: bytes, mode: int) -> None:
    """Everything else is durable: the new control file, now the directory can be started."""
    root.write_file(components(PG_CONTROL), control, mode)
    root.remove(components(SET_ASIDE))


def check_continues(replica: Control, start: Control, since: int | None, history: Sequence[Switch]) -> None:
    """Raises EngineError unless changes from `since` on, up to a backup at `start`, bring the replica forward.

    `since` None: every file comes whole. `history`: the switches that led to the backup's timeline.
    """
    place = f"the backup is of timeline {start.timeline} at {format_lsn(start.position)}"
    stands = f"the replica is on timeline {replica.timeline} at {format_lsn(replica.position)}"
    if replica.system != start.system:
        raise EngineError(
            f"the backup is of the cluster {start.system}, this directory of {replica.system}",
            hint="only a replica of that very cluster can catch up; make a new one with backup-fetch",
        )
    if replica.timeline != start.timeline:
        left = next((each.lsn for each in history if each.timeline == replica.timeline), None)
        if left is None or replica.position > left:
            raise EngineError(
                f"{place}, {stands}: its timeline did not lead there",
                hint="it may have changes that the primary never had, or the history file is not archived; "
                "use pg_rewind, or make a new replica with backup-fetch",
            )
    if start.position <= replica.position:
        raise EngineError(f"{place}, {stands}: it has all that already", hint="take a newer one with catchup-push")
    if since is not None and since > replica.position:
        raise EngineError(
            f"the backup has the pages that changed since {format_lsn(since)}, but {stands}: "
            "what changed in between would be missing",
            hint=f"make one with wal-g catchup-push --from-lsn {format_lsn(replica.position)}",
        )
