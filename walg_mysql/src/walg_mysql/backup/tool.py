"""xtrabackup and mariabackup as create commands: their options, and what they say about log sequence numbers.

Facts: spec/mysql.md 6.2. The options go to the end of the shell text as in the original, unless the text asks for them
by name: then `WALG_MYSQL_BACKUP_OPTIONS` holds them, and a pipeline can put them where they belong.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from walg_core.errors import EngineError
from walg_core.observe import log

OPTIONS = "WALG_MYSQL_BACKUP_OPTIONS"
_WORDS = ("xtrabackup", "xbstream")
_FILES = ("xtrabackup_checkpoints", "mariadb_backup_checkpoints")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm"}


class Checkpoints(NamedTuple):
    """Log sequence numbers that the tool reports; None when unknown."""

    from_lsn: int | None = None
    to_lsn: int | None = None


def is_xtrabackup(text: str) -> bool:
    """Whether a create command is treated as xtrabackup: one of its words contains `xtrabackup` or `xbstream`."""
    return any(word in text for word in _WORDS)


def architecture() -> str:
    """This host's processor in the names of the sentinel: `amd64`, `arm64`."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@contextmanager
def checkpoint_directory() -> Iterator[str]:
    """A directory (below TMPDIR) that the tool writes its checkpoints into; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="wal-g") as path:
        yield path


def with_options(text: str, directory: str, lsn: int | None) -> tuple[str, dict[str, str]]:
    """The shell text with its options, and the environment of the command."""
    options = f"--extra-lsndir={directory}" + ("" if lsn is None else f" --incremental-lsn={lsn}")
    environment = {OPTIONS: options}
    return (text if OPTIONS in text else f"{text} {options}"), environment


def read_checkpoints(directory: str, text: str) -> Checkpoints:
    """What the tool that the shell text runs wrote. Unknown, with a warning, when it wrote nothing.

    Raises EngineError when it was told by name where to write and did not: then it has not come to its end, whatever
    the exit status of the pipeline that it stands in.
    """
    for name in _FILES:
        try:
            with open(os.path.join(directory, name), encoding="ascii", errors="replace") as file:
                lines = file.read(1 << 16).splitlines()
        except OSError:
            continue
        values = {key.strip(): value.strip() for key, sign, value in (line.partition("=") for line in lines) if sign}
        return Checkpoints(_number(values.get("from_lsn", "")), _number(values.get("to_lsn", "")))
    if OPTIONS in text:
        raise EngineError(
            f"the backup tool did not finish: it wrote no {_FILES[0]}",
            hint="its messages are in the log above; the exit status of a pipeline is that of its last command only",
        )
    log.warning(
        "the backup tool wrote no xtrabackup_checkpoints: no increment can be built on this backup. In a pipeline, give"
        f" the tool its options with ${OPTIONS}"
    )
    return Checkpoints()


def _number(text: str) -> int | None:
    """Decimal, `0x…`, octal with a leading zero; None for anything else."""
    try:
        return int(text, 8) if len(text) > 1 and text[0] == "0" and text.isdigit() else int(text, 0)
    except ValueError:
        return None


def check_increment(found: Checkpoints, lsn: int) -> None:
    """An increment must really be one, from that LSN. Raises EngineError."""
    if found.from_lsn == lsn and found.to_lsn is not None:
        return
    if found.from_lsn is None:
        said = "the tool did not tell what it backed up"
    else:
        said = f"it was made from LSN {found.from_lsn}"
    raise EngineError(
        f"the increment from LSN {lsn} was not made: {said}",
        hint=f"the tool must get its options: they are added to the end of WALG_STREAM_CREATE_COMMAND; put ${OPTIONS}"
        " after the tool's name when it is not the last command of a pipeline",
    )
