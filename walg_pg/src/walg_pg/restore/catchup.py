"""`catchup-fetch`: a catchup backup laid over a replica's data directory (spec/postgres-backup.md 15.2).

Full files replace the replica's, increments are written into them (missing files are created), nothing is deleted.
`global/pg_control` is written last: until then the replica keeps its old one and must not be started.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from walg_core.errors import EngineError
from walg_core.io.destination import Destination, components
from walg_core.observe import log

from walg_pg.catalog.backups import CATCHUP, find_backup
from walg_pg.restore import checks, tablespaces
from walg_pg.restore.chain import PG_CONTROL, Link, load_single
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
    if os.path.lexists(os.path.join(data, "postmaster.pid")):
        raise EngineError(f"{data} has a postmaster.pid: a server runs on it", hint="stop the replica first")
    link = load_single(backup)
    log.info(f"Selecting the catchup backup {backup.name}")
    with Destination(data, fsync=not context.config.get("WALG_TAR_DISABLE_FSYNC")) as root:
        layout = _mount(root, link, fsync=True)
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
        root.write_file(components(PG_CONTROL), extractor.control, 0o600)
    log.info(f"Catchup complete: {backup.name} is in {data}")


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
