"""What `delete` does besides the generic part: journals, and increments with a wrong parent (spec/mysql.md 12)."""

from __future__ import annotations

from collections.abc import Sequence

from walg_core.backups import journals
from walg_core.errors import WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage

from walg_mysql.journal.archive import FOLDER

BINLOG_SENTINEL = "binlog_sentinel_005.json"


def forget_journals(storage: Storage, names: Sequence[str], confirm: bool) -> None:
    """After `delete target`: the journals of what was deleted go too; their neighbours take over. Never fails."""
    for name in names:
        key = journals.key_of(name)
        try:
            if not storage.exists(key):
                continue
            if confirm:
                journals.remove(storage, name, FOLDER)
            else:
                log.info(f"Journal marked for deletion: {key}")
        except WalgError as error:
            log.warning(f"the journal of {name} stays: {error}")
