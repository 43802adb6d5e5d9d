"""`wal-g st ls|stat|cat|get|check read`: looking at a storage (spec/storages.md 6)."""

from __future__ import annotations

import os
import sys
from typing import IO, Annotated

import typer

from walg_core.cli.st_target import Glob, Target, chosen, each, folder_prefix, globbing, object_name
from walg_core.context import Context
from walg_core.errors import WalgError
from walg_core.observe import log
from walg_core.pipeline.reader import Reader
from walg_core.storage.api import Storage


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
        if not globbing(ctx, glob):
            _refuse_object(storage, object_name(folder))
            typer.echo(table.render(rows(storage, folder_prefix(folder))), nl=False)
            return
        for prefix in folders(storage, folder):
            typer.echo(f"{_shown(storage, prefix)}:\n{table.render(rows(storage, prefix))}")

    each(ctx, target, show)


def _refuse_object(storage: Storage, name: str) -> None:
    """On a local disk an object cannot have anything below it; elsewhere its name may be a folder's, too."""
    if name and storage.file_system and not storage.remote and storage.exists(name):
        raise WalgError(f"list folder: {name} is an object, not a folder", hint=f"wal-g st stat {name}")


def _shown(storage: Storage, prefix: str) -> str:
    """A folder as `ls -g` names it: the whole key from the bucket's root; a local one's path below its root."""
    if storage.file_system and not storage.remote:
        return (getattr(storage, "prefix", "") + prefix).rstrip("/")
    root = storage.description.partition("://")[2].partition("/")[2]
    whole = (root + "/" if root else "") + prefix
    return "/" + whole.rstrip("/") if storage.file_system else whole


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

    if globbing(ctx, glob):
        raise WalgError("the --glob flag isn't supported by 'stat', because expanding a pattern requires listing")

    def show(storage: Storage) -> None:
        try:
            info = storage.stat(object_name(name))
        except WalgError as error:
            raise WalgError(f'stat object "{name}": {error}', hint=error.hint) from error
        typer.echo(table.render([table.object_row(storage, info, name)]), nl=False)

    each(ctx, target, show)


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
        for key in objects(storage, name) if globbing(ctx, glob) else [object_name(name)]:
            reader = _open(ctx.obj, storage, key, decrypt=decrypt, decompress=decompress)
            try:
                _pour(reader, sys.stdout.buffer)
            finally:
                reader.close()

    each(ctx, target, show)


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

    if chosen(ctx, target) == "all":
        raise WalgError("'all' target is not supported for st get command")
    key = object_name(name)
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

    each(ctx, target, download)


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
        objects.check_read(storage, map(object_name, names or ()))
        log.info("Read check OK")

    each(ctx, target, check)
