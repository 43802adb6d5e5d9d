"""`catchup-fetch`: a catchup backup laid over a replica's data directory (spec/postgres-backup.md 15.2).

Full files replace the replica's, increments are written into them (missing files are created), nothing is deleted.
A backup that does not go on from where the replica stands is refused before anything is changed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from walg_core.io.destination import Destination, components
from walg_core.observe import log

from walg_pg.catalog.backups import find_backup
from walg_pg.catchup.messages import Control
from walg_pg.catchup.state import check_continues, check_stopped, finished, own_control, set_aside
from walg_pg.journal.history import archived_history
from walg_pg.lsn import parse_segment_name
from walg_pg.names import CATCHUP, WAL_FOLDER, own_segment_of
from walg_pg.restore import checks, tablespaces
from walg_pg.restore.chain import Link, load_single
from walg_pg.restore.extract import Extractor, Progress

if TYPE_CHECKING:
    from walg_core.context import Context

    from walg_pg.sentinel import FileEntry


class CatchupExtractor(Extractor):
    """Increments apply whatever the sentinel says of a base, and create files that are missing."""

    def _is_increment(self, entry: FileEntry | None) -> bool:
        return entry is not None and entry.incremented

    def _open_base(self, name: str, parts: tuple[bytes, ...]) -> int:
        try:
            return self._root.open_file(parts)
        except FileNotFoundError:
            log.debug(f"{name} is new to the replica")
            return self._root.create(parts, 0o600)


def catchup_fetch(context: Context, directory: str, name: str) -> None:
    """Bring a stopped replica forward. Raises WalgError; a re-run after an interruption repeats everything."""
    storage = context.primary_storage()
    backup = find_backup([storage], name, CATCHUP)
    data = os.path.realpath(directory)
    check_stopped(data)
    link = load_single(backup)
    _check(context, link, own_control(data))
    log.info(f"Selecting the catchup backup {backup.name}")
    with Destination(data, fsync=not context.config.get("WALG_TAR_DISABLE_FSYNC")) as root:
        layout = _mount(root, link, fsync=True)
        set_aside(root)
        config = context.config
        extractor = CatchupExtractor(
            context,
            root,
            link,
            Progress(),
            page_size=int(config.get("WALG_PG_BLOCK_SIZE")),
            retries=int(config.get("WALG_DOWNLOAD_FILE_RETRIES")),
            drop=frozenset(("tablespace_map",)) if layout.moved else frozenset(),
        )
        control = link.control_part()
        for part in [*link.data_parts(), *filter(None, (link.label_part(), control))]:
            extractor.part(part)
        tablespaces.link(layout, root)
        checks.belongs(root, link, extractor.control)
        root.finish()
        assert extractor.control is not None
        finished(root, extractor.control, 0o600)
    log.info(f"Catchup complete: {backup.name} is in {data}")


def _check(context: Context, link: Link, replica: Control) -> None:
    """The backup goes on from where the replica stands. Raises EngineError.

    What the original makes says no system identifier in old versions, and has every file whole.
    """
    size = int(context.config.get("WALG_PG_WAL_SIZE")) << 20
    timeline, number = parse_segment_name(own_segment_of(link.name), size)
    sentinel = link.sentinel
    system = sentinel.system_identifier if sentinel.system_identifier is not None else replica.system
    changed = link.files is None or any(entry.incremented for entry in link.files.files.values())
    history = []
    if timeline != replica.timeline:
        history = archived_history(context, context.primary_storage().folder(WAL_FOLDER), timeline)
    check_continues(
        replica,
        Control(system, timeline, sentinel.start_lsn or number * size),
        sentinel.delta_lsn if changed else None,
        history,
    )


def _mount(root: Destination, link: Link, *, fsync: bool) -> tablespaces.Layout:
    """Follow the replica's own tablespace links; tablespaces that it lacks are placed as in a restore."""
    planned = tablespaces.plan_layout(root.path, link.sentinel.spec, None, f"the tablespace spec of {link.name}")
    places = []
    for each in planned.tablespaces:
        target = root.read_link(components(each.link))
        place = tablespaces.Tablespace(each.oid, each.link, target) if target else each
        places.append(place)
    missing = tuple(each for each in places if root.read_link(components(each.link)) is None)
    tablespaces.check_locations(tablespaces.Layout(missing, planned.moved), root.path)
    layout = tablespaces.Layout(tuple(places), moved=True)
    tablespaces.prepare(layout, root, fsync=fsync)
    return layout
