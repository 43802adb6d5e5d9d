"""Commands of `walg_pg.backup`."""

from typing import Annotated

import typer
from walg_core.context import Context

from walg_pg.backup.options import PushOptions, composer_of, settle, user_data_of

PUSH = """Back up the cluster.

Its files on this host, or without DB_DIRECTORY through the server from anywhere.

Example: wal-g backup-push /var/lib/postgresql/18/main
"""


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
    app.command("backup-push", help=PUSH)(backup_push)


def backup_push(
    ctx: typer.Context,
    db_directory: Annotated[
        str, typer.Argument(help="The server's data directory; without it the backup is made through the server.")
    ] = "",
    permanent: Annotated[bool, typer.Option("--permanent", "-p", help="Never delete it with the others.")] = False,
    full: Annotated[bool, typer.Option("--full", "-f", help="Make a full backup, never a delta.")] = False,
    verify: Annotated[bool, typer.Option("--verify", "-v", help="Check page checksums while reading.")] = False,
    store_all_corrupt: Annotated[
        bool, typer.Option("--store-all-corrupt", "-s", help="Record all corrupt blocks, not 10 a file.")
    ] = False,
    rating_composer: Annotated[
        bool, typer.Option("--rating-composer", "-r", help="Pack files by how often they change.")
    ] = False,
    copy_composer: Annotated[
        bool, typer.Option("--copy-composer", "-c", help="Reuse unchanged tars of the last backup.")
    ] = False,
    database_composer: Annotated[
        bool, typer.Option("--database-composer", "-b", help="Pack each database into its own tars.")
    ] = False,
    delta_from_user_data: Annotated[
        str, typer.Option(help="Build the delta on the backup with this user data (JSON).")
    ] = "",
    delta_from_name: Annotated[str, typer.Option(help="Build the delta on this backup.")] = "",
    add_user_data: Annotated[str, typer.Option(help="Store this JSON value with the backup.")] = "",
    without_files_metadata: Annotated[
        bool, typer.Option("--without-files-metadata", help="Write no file list (a full backup, restored whole only).")
    ] = False,
    target_storage: Annotated[str, typer.Option(help="Write to this storage (`default`: the primary).")] = "",
) -> int:
    """Back up the cluster, as `PUSH` says."""
    context: Context = ctx.obj
    config = context.config
    options = PushOptions(
        directory=db_directory or None,
        permanent=permanent,
        full=full,
        verify=verify or config.get("WALG_VERIFY_PAGE_CHECKSUMS"),
        store_all_corrupt=store_all_corrupt or config.get("WALG_STORE_ALL_CORRUPT_BLOCKS"),
        composer=composer_of(config, rating=rating_composer, copy=copy_composer, database=database_composer),
        delta_from_user_data=delta_from_user_data or config.get("WALG_DELTA_FROM_USER_DATA") or "",
        delta_from_name=delta_from_name or config.get("WALG_DELTA_FROM_NAME") or "",
        user_data=user_data_of(context, add_user_data),
        files_metadata=not (without_files_metadata or config.get("WALG_WITHOUT_FILES_METADATA")),
        target_storage=target_storage,
    )
    settle(options)
    if options.directory is None:
        from walg_pg.backup.remote import RemotePush

        RemotePush(context, options).run()
        return 0
    from walg_pg.backup.push import LocalPush

    push = LocalPush(context, options)
    push.run()
    found = push.verification.corrupt if push.verification else 0
    return int(config.get("WALG_VERIFY_EXIT_CODE")) if found else 0
