"""`wal-g st transfer`: moving objects between the configured storages (spec/storages.md 6.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from walg_core.errors import WalgError
from walg_core.storage.registry import open_named

if TYPE_CHECKING:
    from walg_core.storage.tools.transfer import Options

_NO_LIMIT = (1 << 63) - 1

Source = Annotated[str, typer.Option("-s", "--source", help="storage to move from; default is the primary")]
Target = Annotated[str, typer.Option("-t", "--target", help="storage to move to")]
Overwrite = Annotated[bool, typer.Option("-o", "--overwrite", help="move objects that the target has already")]
Preserve = Annotated[bool, typer.Option("-p", "--preserve", help="keep the source's objects: only copy")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="stop at the first error")]
Concurrency = Annotated[int, typer.Option("-c", "--concurrency", help="objects moved at a time")]
MaxFiles = Annotated[int, typer.Option("-m", "--max-files", help="most objects to move in this run")]
Checks = Annotated[int, typer.Option("--appearance-checks", help="how often to look for a copy; 0: never")]
Interval = Annotated[str, typer.Option("--appearance-checks-interval", help="time between these looks")]


@dataclass(frozen=True, slots=True)
class FolderTransfer:
    """An engine's command that moves everything in one folder (`folder` ends in `/`)."""

    name: str
    folder: str
    help: str


@dataclass(frozen=True, slots=True)
class BackupTransfer:
    """Moves whole backups: `folder` + a name that starts with `prefix`; a sentinel adds its suffix."""

    name: str
    folder: str
    prefix: str
    sentinel_suffix: str
    help: str


def build(transfers: Iterable[FolderTransfer | BackupTransfer]) -> typer.Typer:
    """The `transfer` group: `files`, and what the engine adds."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Move objects from one storage to another, one by one."
    )
    group.command("files")(files)
    for each in transfers:
        command = _folder_command(each) if isinstance(each, FolderTransfer) else _backup_command(each)
        example = f"Example: wal-g st transfer {each.name} --source spare --target default"
        group.command(each.name, help=f"{each.help}\n\n{example}")(command)
    return group


def files(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(help="an object, or a folder with everything below it")],
    source: Source = "",
    target: Target = "default",
    overwrite: Overwrite = False,
    preserve: Preserve = False,
    fail_fast: FailFast = False,
    concurrency: Concurrency = 10,
    max_files: MaxFiles = _NO_LIMIT,
    appearance_checks: Checks = 3,
    appearance_checks_interval: Interval = "1s",
) -> None:
    """Move everything below a prefix, each object for itself.

    Example: wal-g st transfer files wal_005/ --source spare --target default
    """
    from walg_core.storage.tools.transfer import Options, transfer_files

    options = Options(
        overwrite,
        preserve,
        fail_fast,
        concurrency,
        max_files,
        _NO_LIMIT,
        appearance_checks,
        _seconds(appearance_checks_interval),
    )
    options.validate(source, target)
    transfer_files(open_named(ctx.obj, source), open_named(ctx.obj, target), prefix, options)


def _folder_command(transfer: FolderTransfer) -> Callable[..., None]:
    def command(
        ctx: typer.Context,
        source: Source = "",
        target: Target = "default",
        overwrite: Overwrite = False,
        preserve: Preserve = False,
        fail_fast: FailFast = False,
        concurrency: Concurrency = 10,
        max_files: MaxFiles = _NO_LIMIT,
        appearance_checks: Checks = 3,
        appearance_checks_interval: Interval = "1s",
    ) -> None:
        files(
            ctx,
            transfer.folder,
            source,
            target,
            overwrite,
            preserve,
            fail_fast,
            concurrency,
            max_files,
            appearance_checks,
            appearance_checks_interval,
        )

    return command


def _backup_command(transfer: BackupTransfer) -> Callable[..., None]:
    def command(
        ctx: typer.Context,
        name: Annotated[str, typer.Argument(metavar="NAME", help="one backup; without it all")] = "",
        source: Source = "",
        target: Target = "default",
        overwrite: Overwrite = False,
        preserve: Preserve = False,
        fail_fast: FailFast = False,
        concurrency: Concurrency = 10,
        max_files: MaxFiles = _NO_LIMIT,
        max_backups: Annotated[int, typer.Option("--max-backups", help="most backups to move in this run")] = _NO_LIMIT,
        appearance_checks: Checks = 3,
        appearance_checks_interval: Interval = "1s",
    ) -> None:
        from walg_core.storage.tools.transfer import Options

        options = Options(
            overwrite,
            preserve,
            fail_fast,
            concurrency,
            max_files,
            max_backups,
            appearance_checks,
            _seconds(appearance_checks_interval),
        )
        _move_backups(ctx, transfer, name, source, target, options)

    return command


def _move_backups(
    ctx: typer.Context, transfer: BackupTransfer, name: str, source: str, target: str, options: Options
) -> None:
    from walg_core.storage.tools.transfer import transfer_backups

    options.validate(source, target)
    transfer_backups(
        open_named(ctx.obj, source),
        open_named(ctx.obj, target),
        options,
        folder=transfer.folder,
        prefix=transfer.prefix,
        sentinel=transfer.sentinel_suffix,
        name=name,
    )


def _seconds(text: str) -> float:
    from walg_core.settings.parse import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise WalgError(f"invalid flags: appearance-checks-interval: {error}") from error
