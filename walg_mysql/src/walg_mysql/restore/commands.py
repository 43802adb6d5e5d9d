"""The user's restore and prepare commands, fitted to full and incremental backups (spec/mysql.md 9 and 14 #17, #25).

What the original does to their texts is done here too, unless a text asks for the value by name: then it only stands in
the environment.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from walg_core.errors import ConfigError
from walg_core.streams.commands import feed_file
from walg_core.streams.engine import RESTORE

PREPARE = "WALG_MYSQL_BACKUP_PREPARE_COMMAND"
RESTORE_DIRECTORY = "WALG_MYSQL_RESTORE_DIR"
PREPARE_OPTIONS = "WALG_MYSQL_PREPARE_OPTIONS"
_MARIADB = ("mariabackup", "mariadb-backup")


class Fitted(NamedTuple):
    """A shell text and what its environment has besides ours."""

    text: str
    environment: dict[str, str]


def restore_command(text: str, directory: str) -> Fitted:
    """For an increment into `directory`: the text's last word, the target, is replaced. Full backups: no directory.

    Raises ConfigError for a text of a single word.
    """
    if not directory:
        return Fitted(text, {})
    environment = {RESTORE_DIRECTORY: directory}
    if RESTORE_DIRECTORY in text:
        return Fitted(text, environment)
    words = text.split()
    if len(words) < 2:
        raise ConfigError(
            f"{RESTORE} must end in the directory that it restores into: increments go to another one",
            hint=f"write `… -C DIRECTORY` at its end, or `${{{RESTORE_DIRECTORY}:-DIRECTORY}}` anywhere",
        )
    before, _, after = text.rpartition(words[-1])
    return Fitted(before + directory + after, environment)


def prepare_command(text: str, incremental_directory: str, *, last: bool) -> Fitted:
    """The prepare step of one backup; `last` is the one asked for, after which nothing is applied any more."""
    options = [f"--incremental-dir={incremental_directory}"] if incremental_directory else []
    if not last and not _is_mariadb(text):
        options.append("--apply-log-only")
    added = " ".join(options)
    environment = {PREPARE_OPTIONS: added}
    if not added or PREPARE_OPTIONS in text:
        return Fitted(text, environment)
    return Fitted(f"{text} {added}", environment)


def _is_mariadb(text: str) -> bool:
    return any(os.path.basename(word) in _MARIADB for word in text.split())


def run_prepare(fitted: Fitted) -> None:
    """Run it without input; its messages go to the log. Raises CommandFailed."""
    feed_file(fitted.text, os.devnull, label="backup prepare command", setting=PREPARE, extra=fitted.environment)
