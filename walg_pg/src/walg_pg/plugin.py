"""What the PostgreSQL engine declares. Imports nothing but declarations: it is read whenever plugins are listed."""

from walg_core.declarations import EngineType
from walg_core.hookspecs import hookimpl

from walg_pg.settings import SETTINGS


@hookimpl
def walg_register_engines() -> list[EngineType]:
    return [
        EngineType(
            "pg",
            title="PostgreSQL",
            app="walg_pg.cli:app",
            cold={
                "wal-push": "walg_pg.journal.cold:wal_push",
                "wal-push-ahead": "walg_pg.journal.cold:wal_push_ahead",
                "wal-fetch": "walg_pg.journal.cold:wal_fetch",
                "wal-prefetch": "walg_pg.journal.cold:wal_prefetch",
            },
            cold_forms={
                "wal-push": (1, ("target-storage",)),
                "wal-push-ahead": (1, ("target-storage",)),
                "wal-fetch": (2, ("target-storage",)),
                "wal-prefetch": (2, ("target-storage",), ("follow",)),
            },
            settings=SETTINGS,
            without_storage=("catchup-send", "catchup-receive"),
            failure_status={"wal-fetch": "WALG_WAL_FETCH_FAILURE_EXIT_CODE"},
        )
    ]
