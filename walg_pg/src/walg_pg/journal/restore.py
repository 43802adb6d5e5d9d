"""wal-restore: bring back the WAL that `pg_rewind` needs from the archive (spec/postgres-wal.md 9.2).

`pg_rewind` reads the target's own WAL from the last checkpoint before the clusters parted, to learn which blocks it has
changed since. The rewound server then replays the source's WAL from that checkpoint's redo position on. The original
fetches the source's part from the parting on only.
"""

from __future__ import annotations

import os

from walg_core.context import Context
from walg_core.errors import EngineError, ObjectNotFound, WalgError
from walg_core.observe import log

from walg_pg.journal import place
from walg_pg.journal.checkpoints import Checkpoint, last_checkpoint
from walg_pg.journal.fetch import Fetcher
from walg_pg.journal.history import Switch, history_name, parse_history
from walg_pg.lsn import format_lsn, is_segment_name, parse_segment_name, segment_name


def restore(context: Context, target: str, source: str) -> list[str]:
    """Fetch into both WAL directories what `pg_rewind` needs of them and they lack; the names fetched, in order.

    Raises EngineError when the clusters do not belong together, WalgError when a segment could not be fetched.
    """
    fetcher = Fetcher(context)
    left, right = Side(target, fetcher), Side(source, fetcher)
    _check_pair(left, right)
    common = common_point(left.history, right.history)
    log.info(f"timelines {left.timeline} and {right.timeline} parted at {format_lsn(common)}")
    checkpoint = _checkpoint_before(left, common, context.config.get("WALG_PG_WAL_PAGE_SIZE"))
    size = fetcher.segment_size
    left.fetch_missing(checkpoint.lsn // size, left.checkpoint // size)
    right.fetch_missing(checkpoint.redo // size, right.newest())
    fetched, failed = left.fetched + right.fetched, left.failed + right.failed
    if failed:
        raise WalgError(
            f"{len(failed)} WAL files could not be fetched, the first is {failed[0]}",
            hint="pg_rewind, or the rewound server, will stop without them; a new copy of the source needs none",
        )
    if not fetched:
        log.info("No WAL files to restore")
    return fetched


class Side:
    """One of the two clusters. Raises EngineError when it cannot be read."""

    def __init__(self, data: str, fetcher: Fetcher) -> None:
        control = place.read_control(data)
        if control is None:
            raise EngineError(f"{data} is no data directory: global/pg_control cannot be read")
        self.system, self.checkpoint, self.timeline = control
        self.data = data
        self.directory = _wal_directory(data)
        self.fetched: list[str] = []
        self.failed: list[str] = []
        self._fetcher = fetcher
        self.segment_size = fetcher.segment_size
        self._history: list[Switch] | None = None

    @property
    def history(self) -> list[Switch]:
        """The switches that led to its timeline; the file is fetched when it is missing: `pg_rewind` reads it too."""
        if self._history is None:
            self._history = self._read_history() if self.timeline > 1 else []
        return self._history

    def _read_history(self) -> list[Switch]:
        name = history_name(self.timeline)
        if not os.path.exists(os.path.join(self.directory, name)):
            self._fetch(name)
        try:
            with open(os.path.join(self.directory, name), encoding="utf-8", errors="replace") as file:
                return parse_history(file.read(1 << 20), name=name)
        except OSError as error:
            raise EngineError(
                f"the history of timeline {self.timeline} of {self.data} cannot be read: {error}",
                hint="archive_mode=on archives it; it can be copied from any server on that timeline",
            ) from error

    def name(self, number: int) -> str:
        """The segment's name: where a switch lies in it, it is the later timeline's."""
        end = (number + 1) * self.segment_size
        passed = [switch.timeline for switch in self.history if switch.lsn >= end]
        return segment_name(passed[0] if passed else self.timeline, number, self.segment_size)

    def newest(self) -> int:
        """The number of the newest segment that is here, of its own timeline."""
        own = [each for each in os.listdir(self.directory) if is_segment_name(each)]
        numbers = [parse_segment_name(each, self.segment_size) for each in own]
        return max(
            (number for of, number in numbers if of == self.timeline), default=self.checkpoint // self.segment_size
        )

    def fetch_missing(self, first: int, last: int) -> None:
        """All segments of that range that are not here, newest first, as the original does."""
        for number in range(last, first - 1, -1):
            name = self.name(number)
            if name not in self.failed and not os.path.exists(os.path.join(self.directory, name)):
                self._fetch(name)

    def read(self, number: int) -> bytes | None:
        """A whole segment, fetched when it is not here; None when nobody has it."""
        name = self.name(number)
        path = os.path.join(self.directory, name)
        if not os.path.exists(path) and not self._fetch(name):
            return None
        with open(path, "rb") as file:
            return file.read(self.segment_size)

    def _fetch(self, name: str) -> bool:
        path = os.path.join(self.directory, name)
        try:
            self._fetcher.download(name, path)
        except ObjectNotFound as error:
            log.error(str(error))
            self.failed.append(name)
            return False
        if os.geteuid() == 0:
            # The server must be able to recycle it.
            owner = os.stat(self.directory)
            os.chown(path, owner.st_uid, owner.st_gid)
        log.info(f"restored {path}")
        self.fetched.append(name)
        return True


def _check_pair(left: Side, right: Side) -> None:
    if left.system != right.system:
        raise EngineError(f"the clusters have different system identifiers: {left.system} and {right.system}")
    if left.timeline == right.timeline:
        raise EngineError(
            f"both clusters are on timeline {left.timeline}, so nothing parts them",
            hint="give the target first, then the source; a source that was just promoted needs a CHECKPOINT first",
        )


def _checkpoint_before(side: Side, common: int, page_size: int) -> Checkpoint:
    """The target's last checkpoint before the clusters parted, searched backwards from there."""
    size = side.segment_size
    number = (common - 1) // size
    while number > 0:
        data = side.read(number)
        if data is None:
            break
        found = last_checkpoint(data, number * size, page_size, common)
        if found:
            return found
        number -= 1
    raise WalgError(
        f"{side.name(number)} is neither in {side.directory} nor archived: no checkpoint before {format_lsn(common)}",
        hint="pg_rewind cannot work without it; a new copy of the source needs none",
    )


def common_point(target: list[Switch], source: list[Switch]) -> int:
    """The LSN up to which both histories are the same."""
    point = 0
    for left, right in zip(target, source, strict=False):
        if left != right:
            return min(left.lsn, right.lsn)
        point = left.lsn
    longer = target if len(target) > len(source) else source
    shorter = min(len(target), len(source))
    return longer[shorter].lsn if len(longer) > shorter else point


def _wal_directory(data: str) -> str:
    for name in ("pg_wal", "pg_xlog"):
        path = os.path.join(data, name)
        if os.path.isdir(path):
            return path
    raise EngineError(f"{data} has neither pg_wal nor pg_xlog")
