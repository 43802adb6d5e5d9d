"""The PostgreSQL application: every package of the engine adds its own commands."""

import typer

from walg_pg.backup import cli as backup
from walg_pg.catalog import cli as catalog
from walg_pg.catalog import storage_tools
from walg_pg.catchup import cli as catchup
from walg_pg.daemon import cli as daemon
from walg_pg.journal import cli as journal
from walg_pg.pgbackrest import cli as pgbackrest
from walg_pg.restore import cli as restore

app = typer.Typer(name="pg", no_args_is_help=True, help="Archive and restore PostgreSQL.")
for _part in (backup, restore, catchup, catalog, journal, daemon, pgbackrest, storage_tools):
    _part.register(app)
