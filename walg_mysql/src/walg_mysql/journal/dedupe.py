"""Which binlogs need not be archived because another host already has (spec/mysql.md 7.3)."""

from __future__ import annotations

from walg_core.errors import IntegrityError
from walg_core.observe import log
from walg_core.pipeline.reader import Reader

from walg_mysql.journal.events import previous_gtids
from walg_mysql.journal.gtid import GtidSet, MariadbGtidSet, MysqlGtidSet


def file_start(path: str) -> GtidSet | None:
    """What was executed before a local binlog; None, with a warning, where its start does not tell."""
    try:
        with open(path, "rb", buffering=1 << 16) as file:
            source: Reader = file
            return previous_gtids(source, path)
    except (OSError, IntegrityError) as error:
        log.warning(f"the start of the binlog {path} cannot be read, so its GTIDs are not compared: {error}")
        return None


class Archived:
    """What is archived, as binlogs of this host come by in their order."""

    def __init__(self, gtids: GtidSet) -> None:
        self.gtids = gtids
        self._seen: MysqlGtidSet | None = None

    def needs(self, start: GtidSet | None, end: GtidSet | None) -> bool:
        """Whether a binlog that leads from `start` to `end` holds anything new; from then on that counts as archived.

        One with an unknown end is needed.
        """
        if end is None:
            return True
        if isinstance(end, MariadbGtidSet):
            return self._mariadb(end)
        return self._mysql(start if isinstance(start, MysqlGtidSet) else None, end)

    def _mysql(self, start: MysqlGtidSet | None, end: MysqlGtidSet) -> bool:
        archived = self.gtids if isinstance(self.gtids, MysqlGtidSet) else MysqlGtidSet()
        before = self._seen or start
        self._seen = end
        if not archived or before is None:
            self.gtids = end if not archived else archived.union(end)
            return True
        inside = end.minus(before)
        if archived.contains(inside):
            return False
        self.gtids = archived.union(inside)
        return True

    def _mariadb(self, end: MariadbGtidSet) -> bool:
        archived = self.gtids if isinstance(self.gtids, MariadbGtidSet) else MariadbGtidSet()
        if archived and archived.contains(end):
            return False
        self.gtids = archived.union(end)
        return True
