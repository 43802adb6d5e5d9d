"""What PostgreSQL adds to `wal-g st`: moving WAL and whole backups (spec/storages.md 6.3)."""

import typer
from walg_core.cli.st import build
from walg_core.cli.st_transfer import BackupTransfer, FolderTransfer

from walg_pg.names import BASEBACKUPS, PREFIX, SENTINEL_SUFFIX, WAL_FOLDER


def register(app: typer.Typer) -> None:
    """The `st` group with this engine's transfers."""
    transfers = (
        FolderTransfer("pg-wals", WAL_FOLDER, "Move all WAL segments and what belongs to them."),
        BackupTransfer(
            "backups",
            BASEBACKUPS,
            PREFIX,
            SENTINEL_SUFFIX,
            "Move all backups, or one, its sentinel last.",
        ),
    )
    app.add_typer(build(transfers), name="st")
