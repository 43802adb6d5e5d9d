"""What binlog-push remembers: the cache on this host and the sentinel in the storage (spec/mysql.md 4, 7.2)."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from walg_core.backups import gojson
from walg_core.backups.sentinels import Document
from walg_core.errors import IntegrityError, ObjectNotFound
from walg_core.io import atomic
from walg_core.observe import log

from walg_mysql.journal.gtid import GtidSet, MariadbGtidSet, MysqlGtidSet

if TYPE_CHECKING:
    from walg_core.settings.config import Config
    from walg_core.storage.api import Storage

CACHE = ".walg_mysql_binlogs_cache"
SENTINEL = "binlog_sentinel_005.json"
_LIMIT = 64 << 20


def cache_path(config: Config) -> str:
    """In the home directory of the user that runs the command, as the system's user database knows it."""
    path: str | None = config.get("WALG_MYSQL_BINLOGS_CACHE")
    if path:
        return path
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        home = os.path.expanduser("~")
    return os.path.join(home, CACHE)


def read_cache(path: str) -> str:
    """The name of the last binlog that this host archived; "" when none is known."""
    try:
        with open(path, "rb") as file:
            return Document.parse(file.read(_LIMIT), path).text("LastArchivedBinlog")
    except FileNotFoundError:
        return ""
    except (OSError, IntegrityError) as error:
        log.warning(f"the cache {path} of binlog-push is not readable and is made anew: {error}")
        return ""


def write_cache(path: str, name: str) -> None:
    """Remember `name`. A cache that cannot be written costs time at the next push, no data."""
    try:
        atomic.write_file(path, gojson.dumps({"LastArchivedBinlog": name}), mode=0o644)
    except OSError as error:
        log.warning(f"cannot write the cache {path} of binlog-push: {error}")


def read_archived(storage: Storage, *, mariadb: bool) -> GtidSet:
    """The GTIDs that all hosts together have archived; empty when none are known or the sentinel is damaged."""
    family: type[GtidSet] = MariadbGtidSet if mariadb else MysqlGtidSet
    try:
        text = Document.parse(storage.get(SENTINEL, _LIMIT), SENTINEL).text("GtidArchived")
        return family.parse(text)
    except ObjectNotFound:
        return family()
    except (IntegrityError, ValueError) as error:
        log.warning(f"{SENTINEL} is not readable and is made anew: {error}")
        return family()


def write_archived(storage: Storage, gtids: GtidSet) -> None:
    """Store the set of archived GTIDs at the storage's root."""
    storage.put_bytes(SENTINEL, gojson.dumps({"GtidArchived": str(gtids)}))
