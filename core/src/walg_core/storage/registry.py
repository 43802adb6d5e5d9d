"""From settings to storages: which one, with which layers. Every driver is imported only when it is chosen."""

from walg_core import hooks
from walg_core.declarations import load
from walg_core.errors import ConfigError
from walg_core.plugins import KNOWN_STORAGES, missing_storage
from walg_core.settings.parse import as_text
from walg_core.storage.declared import SETTINGS
from walg_core.storage.layers.observed import ObservedStorage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from walg_core.context import Context
    from walg_core.declarations import StorageType
    from walg_core.settings.config import Config
    from walg_core.storage.api import Storage

# The order in which the original looks at the prefixes; the first that is set wins (spec/storages.md 2).
ORDER = ("OSS", "S3", "FILE", "GS", "AZ", "SWIFT", "SSH")


def open_primary(context: "Context") -> "Storage":
    """The primary storage with `WALG_STORAGE_PREFIX` and all layers. Raises ConfigError, MissingPlugin."""
    return open_config(context, context.config)


def open_for_writing(context: "Context", target: str = "") -> "Storage":
    """The storage to write to: `target` (or `WALG_TARGET_STORAGE`), the mirrors, or the first alive one.

    Raises NoAliveStorage, ConfigError for an unknown name.
    """
    target = target or _setting(context.config, "WALG_TARGET_STORAGE") or ""
    if _several(context.config):
        from walg_core.storage.failover import open_for_writing as choose

        return choose(context, target)
    _only_default(target)
    return context.primary_storage()


def open_for_reading(context: "Context", target: str = "", *, writable: bool = False) -> "list[Storage]":
    """All alive storages (only `target` when given), primary first; `writable` asks for the write check (deletions).

    Raises NoAliveStorage, ConfigError for an unknown name.
    """
    target = target or _setting(context.config, "WALG_TARGET_STORAGE") or ""
    if _several(context.config):
        from walg_core.storage.failover import open_for_reading as choose

        return choose(context, target, writable=writable)
    _only_default(target)
    return [context.primary_storage()]


def union(storages: "Sequence[Storage]", context: "Context | None" = None) -> "Storage":
    """One view of several storages: the first that has an object wins. Closing it closes none of them.

    With a context, what none of them has is AbsenceUnsure, not ObjectNotFound, while another configured storage is
    dead: it may have it.
    """
    if context is not None and _several(context.config):
        from walg_core.storage.failover import union as join

        return join(context, storages)
    if len(storages) == 1:
        return storages[0]
    from walg_core.storage.layers.union import UnionStorage

    return UnionStorage(storages)


def open_named(context: "Context", name: str) -> "Storage":
    """The storage called `name` (`default`: the primary), alive or not. Raises ConfigError with the known names."""
    if _several(context.config):
        from walg_core.storage.failover import group

        return group(context).open_unchecked(name)
    _only_default(name)
    return context.primary_storage()


def storage_names(context: "Context") -> "list[str]":
    """The names of all configured storages, the primary's `default` first."""
    if not _several(context.config):
        return ["default"]
    from walg_core.storage.failover import group

    return group(context).names()


def open_config(
    context: "Context", config: "Config", *, name: str = "default", storage_prefix: bool = True
) -> "Storage":
    """The storage that `config` names, with all layers.

    For failover storages and the sides of a copy `config` is a nested one. `storage_prefix` False leaves
    `WALG_STORAGE_PREFIX` out. Raises ConfigError, MissingPlugin; never touches the network.
    """
    declaration, prefix = choose(context, config)
    _setting(context.config, "WALG_STORAGE_PREFIX")
    storage: Storage = load(declaration.factory)(config, prefix)
    storage.name = name
    storage = _layered(context, storage)
    below = _setting(context.config, "WALG_STORAGE_PREFIX") if storage_prefix else None
    return storage.folder("/".join(part for part in below.split("/") if part)) if below else storage


def choose(context: "Context", config: "Config") -> "tuple[StorageType, str]":
    """The kind of storage whose prefix is set (the first in the fixed order) and that prefix."""
    kinds = sorted(context.catalog.storages.values(), key=lambda kind: (kind.order, kind.name))
    found: list[tuple[int, str, StorageType | None, str]] = []
    installed = set()
    for kind in kinds:
        config.declare(kind.settings)
        installed.add(kind.prefix)
        value = _own_value(config, config.setting(kind.prefix).names)
        if value:
            found.append((kind.order, kind.prefix, kind, value))
    for place, short in enumerate(ORDER, 1):
        if short in KNOWN_STORAGES and f"WALG_{short}_PREFIX" not in installed:
            value = _own_value(config, (f"WALG_{short}_PREFIX", f"WALE_{short}_PREFIX"))
            if value:
                found.append((place, f"WALG_{short}_PREFIX", None, value))
    if not found:
        raise ConfigError(
            "No storage is configured now, please set one of following settings: "
            f"[{' '.join(f'WALG_{short}_PREFIX' for short in ORDER)}]",
            hint="for a directory: WALG_FILE_PREFIX=/path/to/archive",
        )
    found.sort(key=lambda row: row[:2])
    if len(found) > 1:
        _warn_of_several([row[1] for row in found])
    _, name, chosen, value = found[0]
    if chosen is None:
        raise missing_storage(name[len("WALG_") : -len("_PREFIX")])
    return chosen, value


def _own_value(config: "Config", names: "tuple[str, ...]") -> str:
    """Never the parent's: a failover storage without a prefix of its own is not the primary."""
    for name in names:
        found = config._look_up(name)
        if found:
            return as_text(found[0]).rstrip("\r\n")
    return ""


def _warn_of_several(names: "list[str]") -> None:
    from walg_core.observe import log

    log.warning(f"several storages are configured: {names[0]} is used, {', '.join(names[1:])} ignored")


def _setting(config: "Config", name: str) -> "str | None":
    """A setting of the layers as text, declared here when the frame has not done it."""
    if name not in config.declared:
        config.declare(setting for setting in SETTINGS if setting.name not in config.declared)
    if not config.is_set(name):
        return None
    return str(config.get(name))


def _several(config: "Config") -> bool:
    return bool(_setting(config, "WALG_FAILOVER_STORAGES") or _setting(config, "WALG_MIRROR_STORAGES"))


def _only_default(target: str) -> None:
    if target not in ("", "default"):
        raise ConfigError(
            f'storage with name "{target}" is not found, available storages: [default]',
            hint="storages other than the primary are declared in WALG_FAILOVER_STORAGES",
        )


def _layered(context: "Context", storage: "Storage") -> "Storage":
    """From the inside: what plugins wrap, tracing, stall detection, the rate limit, retries, events."""
    from walg_core.observe import log
    from walg_core.storage.layers.retry import Policy, RetryStorage

    config = context.config
    for wrap in hooks.implementations(context.catalog, "walg_wrap_storage"):
        storage = wrap(storage=storage, config=config) or storage
    if log.level() == log.DEVEL:
        from walg_core.storage.layers.trace import TracingStorage

        storage = TracingStorage(storage)
    stall = config.get("WALG_STORAGE_STALL_TIMEOUT")
    if storage.remote and stall:
        from walg_core.storage.layers.stall import StallStorage

        storage = StallStorage(storage, stall, 5 * stall)
    if config.is_set("WALG_NETWORK_RATE_LIMIT"):
        from walg_core.storage.layers.limit import LimitedStorage, network_bucket

        bucket = network_bucket(context)
        storage = LimitedStorage(storage, bucket) if bucket else storage
    retries, deadline = config.get("WALG_STORAGE_RETRIES"), config.get("WALG_STORAGE_RETRY_DEADLINE")
    storage = RetryStorage(storage, Policy(retries, deadline))
    return ObservedStorage(storage, context.catalog)
