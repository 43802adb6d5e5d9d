"""`catchup-push`: what a replica that fell behind must fetch, as increments (spec/postgres-backup.md 15.2)."""

from __future__ import annotations

from walg_core.context import Context
from walg_core.errors import UsageError

from walg_pg import names
from walg_pg.backup.base import Base
from walg_pg.backup.options import PushOptions
from walg_pg.backup.push import LocalPush
from walg_pg.backup.walk import CATCHUP_EXCLUDED
from walg_pg.catalog.backups import Backup
from walg_pg.lsn import parse_lsn
from walg_pg.sentinel import Known, Sentinel


class _EveryFile(dict[str, Known]):
    """The file list of a base that is not known: the replica has every file, at an unknown time.

    A file that it lacks was made after `--from-lsn`: all its pages are newer than that and in its increment.
    """

    def __contains__(self, name: object) -> bool:
        return True

    def pop(self, name: str, default: object = None) -> None:  # type: ignore[override]
        """Never: no file counts as unchanged."""


class CatchupPush(LocalPush):
    """A push into `catchup_005/` with the pages that changed since a position."""

    def __init__(self, context: Context, directory: str, since: int, user_data: object) -> None:
        super().__init__(context, PushOptions(directory=directory, user_data=user_data))
        self.since = since
        self.folder = names.CATCHUP
        self.excluded = CATCHUP_EXCLUDED

    def _choose_base(self) -> Base | None:
        storage = self.context.primary_storage()
        pretended = Sentinel(start_lsn=self.since)
        return Base(Backup("", names.CATCHUP, 0, storage), pretended, _EveryFile(), 1, "")

    def _name(self, segment: str) -> str:
        return names.PREFIX + segment


def position(text: str) -> int:
    """`--from-lsn`: `X/Y`, decimal, or with a prefix `0x`. Raises UsageError."""
    try:
        return parse_lsn(text) if "/" in text else int(text, 0)
    except ValueError:
        raise UsageError(f"--from-lsn: {text!r} is not a position like 0/3000028 or 50331688") from None
