"""Names of etcd's WAL files: `%016x-%016x.wal`, sequence and first raft index (etcd's server/storage/wal)."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from walg_core.errors import ConfigError
from walg_core.observe import log
from walg_core.settings.config import Config

_FORM = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


class WalFile(NamedTuple):
    """One file of the log; sorts by sequence."""

    sequence: int
    raft_index: int
    name: str


def parse(name: str) -> WalFile | None:
    """None when it is not the name of a WAL file."""
    match = _FORM.fullmatch(name)
    return WalFile(int(match.group(1), 16), int(match.group(2), 16), name) if match else None


def directory(config: Config) -> str:
    """Where etcd writes its log. Raises ConfigError when no setting says so."""
    data = config.require("WALG_ETCD_DATA_DIR")
    path: str = config.get("WALG_ETCD_WAL_DIR") or os.path.join(data, "member", "wal")
    return path


def files(path: str) -> list[WalFile]:
    """The log's files in order; others are reported, temporary ones silently left out. Raises ConfigError."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise ConfigError(
            f"the WAL directory {path} cannot be read: {error.strerror}",
            hint="check WALG_ETCD_DATA_DIR and WALG_ETCD_WAL_DIR",
        ) from error
    found = []
    for name in names:
        file = parse(name)
        if file:
            found.append(file)
        elif not name.endswith(".tmp"):
            log.error(f"ignored file in WAL directory: {name}")
    return sorted(found)
