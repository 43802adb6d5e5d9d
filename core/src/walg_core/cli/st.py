"""`wal-g st`: the storage tools (spec/storages.md 6). `build` makes the group, with the transfers of an engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import IO, Annotated

import typer

from walg_core.cli import st_transfer
from walg_core.context import Context
from walg_core.crypto.api import Crypter
from walg_core.errors import ConfigError, ObjectExists, WalgError
from walg_core.observe import log
from walg_core.pipeline.reader import Reader
from walg_core.storage.api import Storage
from walg_core.storage.registry import open_config, open_named, storage_names

Target = Annotated[str, typer.Option("-t", "--target", help="storage to work on: default, a failover's name, or all")]
Glob = Annotated[bool, typer.Option("-g", "--glob", help="the path is a pattern of *, ? and [..]")]
_TARGET, _GLOB = "walg.st.target", "walg.st.glob"


def build(transfers: Iterable[st_transfer.FolderTransfer | st_transfer.BackupTransfer] = ()) -> typer.Typer:
    """The `st` group. `transfers` are an engine's own commands below `st transfer`."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Storage tools: look at objects, move them, check access. They act on the storage at once.",
    )
    group.callback()(_common)
    for command in (ls, stat, cat, get, put, rm, copy, conformance, sweep):
        group.command(command.__name__)(command)
    check = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check access to the storage.")
    check.command("read")(check_read)
    check.command("write")(check_write)
    group.add_typer(check, name="check")
    group.add_typer(st_transfer.build(transfers), name="transfer")
    return group


def _common(ctx: typer.Context, target: Target = "", glob: Glob = False) -> None:
    ctx.meta[_TARGET], ctx.meta[_GLOB] = target, glob


def _each(ctx: typer.Context, target: str, action: Callable[[Storage], None]) -> None:
    """On the target, or on all storages in order; then only a failure of every one is a failure."""
    context: Context = ctx.obj
    target = target or ctx.meta.get(_TARGET) or "default"
    if target != "all":
        action(_named(context, target))
        return
    succeeded = False
    for name in storage_names(context):
        log.info(f"storage {name}")
        try:
            action(_named(context, name))
            succeeded = True
        except WalgError as error:
            log.error(str(error))
    if not succeeded:
        raise WalgError("all storages failed")


def _named(context: Context, name: str) -> Storage:
    try:
        return open_named(context, name)
    except ConfigError as error:
        raise ConfigError(f'failed to init folder for storage "{name}": {error}', hint=error.hint) from error


def _globbing(ctx: typer.Context, glob: bool) -> bool:
    return glob or bool(ctx.meta.get(_GLOB))


def _folder(path: str) -> str:
    """The prefix that a path means, "" for the root."""
    name = _object(path)
    return name + "/" if name else ""


def _object(path: str) -> str:
    """The path without what changes nothing: `.` and doubled slashes. `..` stays, and is refused later."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def ls(
    ctx: typer.Context,
    folder: Annotated[str, typer.Argument(help="folder to list; without it the root")] = "",
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="list everything below")] = False,
    all_versions: Annotated[bool, typer.Option("--all-versions", help="every version, deleted ones too")] = False,
    target: Target = "",
    glob: Glob = False,
) -> None:
    """List a folder.

    \b
    Examples:
      wal-g st ls basebackups_005/
      wal-g st ls -r wal_005/ -t all
      wal-g st ls -g 'basebackups_005/base_*'
    """
    from walg_core.storage.tools import table
    from walg_core.storage.tools.glob import folders

    def rows(storage: Storage, prefix: str) -> list[tuple[str, ...]]:
        if all_versions:
            return table.version_rows(storage, prefix, recursive)
        return table.tree_rows(storage, prefix) if recursive else table.folder_rows(storage, prefix)

    def show(storage: Storage) -> None:
        if not _globbing(ctx, glob):
            typer.echo(table.render(rows(storage, _folder(folder))), nl=False)
            return
        for prefix in folders(storage, folder):
            typer.echo(f"{_shown(storage, prefix)}:\n{table.render(rows(storage, prefix))}")

    _each(ctx, target, show)


def _shown(storage: Storage, prefix: str) -> str:
    """A folder as `ls -g` names it: the whole key from the bucket's root; a file system's path below its root."""
    if storage.file_system:
        return (getattr(storage, "prefix", "") + prefix).rstrip("/")
    root = storage.description.partition("://")[2].partition("/")[2]
    return (root + "/" if root else "") + prefix


def stat(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="OBJECT")],
    target: Target = "",
    glob: Glob = False,
) -> None:
    """Show one object's size and time.

    Example: wal-g st stat wal_005/000000010000000000000001.lz4
    """
    from walg_core.storage.tools import table

    if _globbing(ctx, glob):
        raise WalgError("the --glob flag isn't supported by 'stat', because expanding a pattern requires listing")

    def show(storage: Storage) -> None:
        try:
            info = storage.stat(_object(name))
        except WalgError as error:
            raise WalgError(f'stat object "{name}": {error}', hint=error.hint) from error
        typer.echo(table.render([table.object_row(storage, info, name)]), nl=False)

    _each(ctx, target, show)


def cat(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="OBJECT")],
    decrypt: Annotated[bool, typer.Option("--decrypt", help="decrypt as configured")] = False,
    decompress: Annotated[bool, typer.Option("--decompress", help="decompress by the name's extension")] = False,
    target: Target = "",
    glob: Glob = False,
) -> None:
    """Write an object's bytes to standard output.

    They come as they are stored, unless asked otherwise.

    Example: wal-g st cat --decompress wal_005/00000002.history.lz4
    """
    from walg_core.storage.tools.glob import objects

    def show(storage: Storage) -> None:
        for key in objects(storage, name) if _globbing(ctx, glob) else [_object(name)]:
            reader = _open(ctx.obj, storage, key, decrypt=decrypt, decompress=decompress)
            try:
                _pour(reader, sys.stdout.buffer)
            finally:
                reader.close()

    _each(ctx, target, show)


def _open(context: Context, storage: Storage, key: str, *, decrypt: bool, decompress: bool) -> Reader:
    try:
        reader = storage.open(key)
    except WalgError as error:
        raise WalgError(f"download the file: {error}", hint=error.hint) from error
    crypter = context.crypter() if decrypt else None
    if crypter:
        reader = crypter.decrypt(reader)
    if not decompress:
        return reader
    extension = os.path.splitext(key)[1][1:]
    if not extension:
        return reader
    compressor = context.catalog.by_extension(extension)
    if compressor is None:
        log.warning(f"decompressor for extension '{extension}' was not found (file: {key}), the bytes stay as they are")
        return reader
    plain: Reader = compressor.decompress(reader)
    return plain


def _pour(reader: Reader, sink: IO[bytes]) -> None:
    while piece := reader.read(1 << 20):
        sink.write(piece)
    sink.flush()


def get(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="OBJECT")],
    destination: Annotated[str, typer.Argument(help="a new file, or a directory for it")],
    no_decrypt: Annotated[bool, typer.Option("--no-decrypt", help="keep it encrypted")] = False,
    no_decompress: Annotated[bool, typer.Option("--no-decompress", help="keep it compressed")] = False,
    target: Target = "",
    _glob: Glob = False,
) -> None:
    """Download one object, decrypted and decompressed. A directory gets it under the object's own name.

    \b
    Examples:
      wal-g st get wal_005/000000010000000000000001.lz4 /tmp/segment
    """
    from walg_core.io.atomic import write_file

    if (target or ctx.meta.get(_TARGET)) == "all":
        raise WalgError("'all' target is not supported for st get command")
    key = _object(name)
    path = os.path.join(destination, key.rpartition("/")[2]) if os.path.isdir(destination) else destination

    def download(storage: Storage) -> None:
        if os.path.lexists(path):
            raise WalgError(
                f"open the destination file: open {path}: file exists", hint="name a file that is not there"
            )
        reader = _open(ctx.obj, storage, key, decrypt=not no_decrypt, decompress=not no_decompress)
        try:
            write_file(path, reader, mode=0o640, exclusive=True)
        except WalgError as error:
            raise WalgError(f"download the file: {error}", hint=error.hint) from error
        finally:
            reader.close()

    _each(ctx, target, download)


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
        raise WalgError(f"accepts {1 if read_stdin else 2} arg(s), received {len(paths)}", hint="wal-g st put --help")
    context: Context = ctx.obj
    name = _object(paths[-1])
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

    _each(ctx, target, upload)


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
    globbing = _globbing(ctx, glob)
    if version_id and globbing:
        raise WalgError("--version-id cannot be used together with --glob")

    def remove(storage: Storage) -> None:
        if version_id:
            objects.remove_version(storage, _object(prefix), version_id)
        elif globbing:
            for each in [*matching(storage, prefix), *folders(storage, prefix)]:
                objects.remove(storage, each, all_versions=all_versions)
        else:
            objects.remove(storage, prefix, all_versions=all_versions)

    _each(ctx, target, remove)


def check_read(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[OBJECT]...", help="objects that must be there")] = None,
    target: Target = "",
    _glob: Glob = False,
) -> None:
    """List the storage and look for objects.

    Example: wal-g st check read basebackups_005/base_000000010000000000000002_backup_stop_sentinel.json
    """
    from walg_core.storage.tools import objects

    def check(storage: Storage) -> None:
        objects.check_read(storage, map(_object, names or ()))
        log.info("Read check OK")

    _each(ctx, target, check)


def check_write(ctx: typer.Context, target: Target = "", _glob: Glob = False) -> None:
    """Write, read back and delete a small object.

    Example: wal-g st check write
    """
    from walg_core.storage.tools import objects

    def check(storage: Storage) -> None:
        objects.check_write(storage)
        log.info("Write check OK")

    _each(ctx, target, check)


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

    _each(ctx, target, check)
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

    _each(ctx, target, clean)


app = build()
