"""`wal-g st put|rm|copy|check write|conformance|sweep`: what changes a storage (spec/storages.md 6)."""

from __future__ import annotations

import os
import sys
from typing import IO, Annotated

import typer

from walg_core.cli.st_target import Glob, Target, each, globbing, object_name
from walg_core.context import Context
from walg_core.crypto.api import Crypter
from walg_core.errors import ConfigError, ObjectExists, UsageError, WalgError
from walg_core.observe import log
from walg_core.storage.api import Storage
from walg_core.storage.registry import open_config


def put(
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="[LOCAL] DESTINATION", help="file, and name in the storage")],
    force: Annotated[bool, typer.Option("-f", "--force", help="overwrite an object that is there")] = False,
    no_compress: Annotated[bool, typer.Option("--no-compress", help="store it uncompressed")] = False,
    no_encrypt: Annotated[bool, typer.Option("--no-encrypt", help="store it unencrypted")] = False,
    read_stdin: Annotated[bool, typer.Option("-s", "--read-stdin", help="read standard input, not LOCAL")] = False,
    target: Target = "",
    _glob: Glob = False,
) -> None:
    """Upload a file, compressed and encrypted.

    The compressor's extension is added to the name.

    \b
    Examples:
      wal-g st put notes.txt notes/2026
      pg_dump db | wal-g st put -s dumps/db.sql
    """
    from walg_core.pipeline.transfer import store

    if len(paths) != (1 if read_stdin else 2):
        # One name where two are needed is no usage error in the original: only its log tells.
        kind = UsageError if len(paths) > 2 else WalgError
        raise kind(f"accepts {1 if read_stdin else 2} arg(s), received {len(paths)}", hint="wal-g st put --help")
    context: Context = ctx.obj
    name = object_name(paths[-1])
    if paths[-1].endswith("/"):
        name = f"{name}/{name.rpartition('/')[2]}"
    compressor = None if no_compress else context.compressor()
    key = f"{name}.{compressor.extension}" if compressor and compressor.extension else name

    def upload(storage: Storage) -> None:
        exists = WalgError(f"check file overwrite: object {key} already exists. To overwrite it, add the -f flag")
        if not force and storage.exists(key):
            raise exists
        with _source(paths[0], read_stdin) as source:
            try:
                store(
                    context,
                    storage,
                    name,
                    source,
                    compress=not no_compress,
                    encrypt=not no_encrypt,
                    if_absent=not force,
                )
            except ObjectExists:
                raise exists from None

    each(ctx, target, upload)


def _source(path: str, stdin: bool) -> IO[bytes]:
    if stdin:
        return sys.stdin.buffer
    if os.path.isdir(path):
        raise WalgError(f"provided local path ({path}) points to a directory, exiting")
    try:
        return open(path, "rb")
    except OSError as error:
        raise WalgError(f"open file: open {path}: {error.strerror}") from error


def rm(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(help="an object, or a folder with everything below it")],
    all_versions: Annotated[bool, typer.Option("--all-versions", help="every version, not only the latest")] = False,
    version_id: Annotated[str, typer.Option("--version-id", help="exactly this version of one object")] = "",
    target: Target = "",
    glob: Glob = False,
) -> None:
    """Remove an object or a folder, at once.

    Example: wal-g st rm basebackups_005/base_000000010000000000000002
    """
    from walg_core.storage.tools import objects
    from walg_core.storage.tools.glob import folders
    from walg_core.storage.tools.glob import objects as matching

    if version_id and all_versions:
        raise WalgError("--version-id cannot be used together with --all-versions ")
    patterns = globbing(ctx, glob)
    if version_id and patterns:
        raise WalgError("--version-id cannot be used together with --glob")

    def remove(storage: Storage) -> None:
        if version_id:
            objects.remove_version(storage, object_name(prefix), version_id)
        elif patterns:
            for found in [*matching(storage, prefix), *folders(storage, prefix)]:
                objects.remove(storage, found, all_versions=all_versions)
        else:
            # The final slash stays: it says that only a folder is meant.
            name = object_name(prefix)
            objects.remove(storage, f"{name}/" if prefix.endswith("/") else name, all_versions=all_versions)

    each(ctx, target, remove)


def check_write(ctx: typer.Context, target: Target = "", _glob: Glob = False) -> None:
    """Write, read back and delete a small object.

    Example: wal-g st check write
    """
    from walg_core.storage.tools import objects

    def check(storage: Storage) -> None:
        objects.check_write(storage)
        log.info("Write check OK")

    each(ctx, target, check)


def copy(
    ctx: typer.Context,
    source: Annotated[str, typer.Option("--from", help="configuration file of the storage to read")],
    destination: Annotated[str, typer.Option("--to", help="configuration file of the storage to write")],
    prefix: Annotated[str, typer.Option("-p", "--prefix", help="only objects whose names start so")] = "",
    decrypt_source: Annotated[bool, typer.Option("-d", "--decrypt-source", help="decrypt what is read")] = False,
    encrypt_source: Annotated[bool, typer.Option("-e", "--encrypt-source", help="encrypt what is written")] = False,
) -> None:
    """Copy objects between two configurations.

    \b
    Examples:
      wal-g st copy --from old.json --to new.json -p basebackups_005/
    """
    from walg_core.settings.files import read_file
    from walg_core.storage.tools.copying import copy_objects

    context: Context = ctx.obj
    sides = []
    for path in (source, destination):
        config = context.config.nested(read_file(path, context.config.environment), path)
        side = Context(config, context.catalog, engine=context.engine, turbo=context.turbo)
        sides.append((side, open_config(context, config, storage_prefix=False)))
    (reading, from_storage), (writing, to_storage) = sides
    try:
        copy_objects(
            from_storage,
            to_storage,
            prefix,
            decrypt=_needed(reading, source, "--decrypt-source") if decrypt_source else None,
            encrypt=_needed(writing, destination, "--encrypt-source") if encrypt_source else None,
        )
    finally:
        from_storage.close()
        to_storage.close()


def _needed(context: Context, path: str, flag: str) -> Crypter:
    crypter = context.crypter()
    if crypter is None:
        raise ConfigError(f"{flag}: {path} configures no encryption", hint="add the cipher's settings to that file")
    return crypter


def conformance(
    ctx: typer.Context,
    only: Annotated[str, typer.Option("--only", help="run only cases whose names contain this")] = "",
    many: Annotated[int, typer.Option("--many", help="objects of the paging cases")] = 1050,
    large: Annotated[int, typer.Option("--large", help="size of the large objects, in MiB")] = 21,
    target: Target = "",
) -> None:
    """Run the conformance suite on the storage.

    It works in folders of its own named walg-conformance-*.

    \b
    Examples:
      wal-g st conformance
      wal-g st conformance --only if_absent
    """
    from walg_core.testing.conformance import StorageConformance, run

    suite = StorageConformance()
    suite.many, suite.large = many, large << 20
    counts = {"passed": 0, "skipped": 0, "failed": 0}

    def check(storage: Storage) -> None:
        for outcome in run(storage, lambda name: only in name, suite):
            counts[outcome.verdict] += 1
            reason = f"  {outcome.message}" if outcome.message else ""
            typer.echo(f"{outcome.verdict:<8}{outcome.seconds:8.2f} s  {outcome.name}{reason}")

    each(ctx, target, check)
    typer.echo(f"{counts['passed']} passed, {counts['skipped']} skipped, {counts['failed']} failed")
    if counts["failed"]:
        raise WalgError(f"the storage does not keep the contract: {counts['failed']} cases failed")


def sweep(
    ctx: typer.Context,
    older_than: Annotated[str, typer.Option("--older-than", help="age from which a temporary file is garbage")] = "24h",
    confirm: Annotated[bool, typer.Option("--confirm", help="really delete; without it they are only listed")] = False,
    target: Target = "",
) -> None:
    """List or delete what crashed uploads left.

    Only a file storage has such temporary files.

    Example: wal-g st sweep --older-than 24h --confirm
    """
    import time

    from walg_core.settings.parse import parse_duration

    try:
        age = parse_duration(older_than)
    except ValueError as error:
        raise WalgError(f"--older-than: {error}") from error

    def clean(storage: Storage) -> None:
        while hasattr(storage, "inner"):
            storage = storage.inner
        find, delete = getattr(storage, "temporaries", None), getattr(storage, "sweep", None)
        if find is None or delete is None:
            log.info(f"storage '{storage.name}' has no temporary files")
            return
        names = list(find(time.time() - age))
        for name in names:
            typer.echo(name)
        if confirm:
            delete(names)
        log.info(f"{len(names)} temporary files {'deleted' if confirm else 'found; --confirm deletes them'}")

    each(ctx, target, clean)
