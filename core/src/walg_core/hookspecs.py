"""Every hook of walg, grouped by phase. A plugin is a module (or object) with functions marked `@hookimpl`.

Entry-point groups: `walg.engines`, `walg.storages`, `walg.compressors`, `walg.crypters`, `walg.plugins`; the entry's
name is the thing's name. `register` hooks return declarations (`walg_core.declarations`), never live objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

    from walg_core.context import Context
    from walg_core.declarations import CompressorType, CrypterType, EngineType, StorageType
    from walg_core.events import BackupEvent, ObjectWritten, RestoreEvent
    from walg_core.health import Check, Finding
    from walg_core.settings.config import Config
    from walg_core.settings.declare import Setting
    from walg_core.storage.api import Storage

hookspec = pluggy.HookspecMarker("walg")
hookimpl = pluggy.HookimplMarker("walg")


# Discovery: called while plugins are listed; must be cheap and must not import a driver.


@hookspec
def walg_register_settings() -> Iterable[Setting]:  # type: ignore[empty-body]
    """Settings that belong to no single storage, compressor, crypter or engine."""


@hookspec
def walg_register_storages() -> Iterable[StorageType]:  # type: ignore[empty-body]
    """Kinds of storage."""


@hookspec
def walg_register_compressors() -> Iterable[CompressorType]:  # type: ignore[empty-body]
    """Compression methods."""


@hookspec
def walg_register_crypters() -> Iterable[CrypterType]:  # type: ignore[empty-body]
    """Ciphers."""


@hookspec
def walg_register_engines() -> Iterable[EngineType]:  # type: ignore[empty-body]
    """Database engines."""


# Command line.


@hookspec
def walg_register_commands(app: typer.Typer) -> None:
    """Add commands to the full application."""


# Storage.


@hookspec
def walg_wrap_storage(storage: Storage, config: Config) -> Storage | None:
    """The storage wrapped in one more layer, or None to leave it alone."""


@hookspec
def walg_object_written(event: ObjectWritten) -> None:
    """An object became durable. For metrics and audit; an exception is logged and goes no further."""


# Backup and restore.


@hookspec
def walg_backup_starting(event: BackupEvent) -> None:
    """Before anything is written. An exception aborts the backup."""


@hookspec
def walg_backup_finished(event: BackupEvent) -> None:
    """After the sentinel is durable. An exception is reported; the backup stands."""


@hookspec
def walg_restore_finished(event: RestoreEvent) -> None:
    """After everything is on disk and synced. An exception is reported."""


# Verification and health.


@hookspec
def walg_verify_backup(context: Context) -> Iterable[Finding]:  # type: ignore[empty-body]
    """Findings for one merged report of `backup-verify`."""


@hookspec
def walg_health_checks(context: Context) -> Iterable[Check]:  # type: ignore[empty-body]
    """Checks for `wal-g doctor`."""
