"""All mistakes of a configuration at once, each with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from walg_core.errors import WalgError
from walg_core.plugins import KNOWN_CRYPTERS, KNOWN_STORAGES, Catalog
from walg_core.settings.config import Config
from walg_core.settings.files import line_of
from walg_core.settings.model import validate
from walg_core.settings.unknown import known_names, nearest, unknown_names


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong: the setting ("" for a file as a whole), where its value comes from, what is wrong."""

    name: str
    origin: str
    message: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.name, self.message) if part)
        return f"{text} ({self.origin})" if self.origin and self.origin not in self.message else text


def with_line(config: Config, origin: str) -> str:
    """An origin in a file with the line's number, where it can be told."""
    file, sign, name = origin.removeprefix("file ").rpartition(": ")
    if not origin.startswith("file ") or not sign:
        return origin
    line = line_of(file, name) if file == config.file_name else 0
    return f"file {file}, line {line}: {name}" if line else origin


def mistakes(config: Config, catalog: Catalog, engine: str, *, environment_names: bool = False) -> list[Mistake]:
    """Malformed values, unknown names, contradictions, missing plugins and missing required settings.

    Runs the commands of secrets that have one. `environment_names`: also look for mistyped `WALG_*` variables.
    """
    found = [
        Mistake(name, with_line(config, config.origin(name)), message)
        for name, message in sorted(validate(config).items())
    ]
    found += _unknown(config, catalog, environment_names=environment_names)
    found += _storages(config, catalog)
    found += _failover(config, catalog)
    found += _codecs(config, catalog)
    found += _web_server(config)
    if engine:
        for name in catalog.engines[engine].required:
            if not config.is_set(name):
                found.append(Mistake(name, "", "is required and not set"))
    return found


def _unknown(config: Config, catalog: Catalog, *, environment_names: bool) -> Iterator[Mistake]:
    settings = [*config.declared.values(), *(s for e in catalog.engines.values() for s in e.settings)]
    for name, meant in unknown_names(config.file, settings).items():
        yield Mistake(name, with_line(config, f"file {config.file_name}: {name}"), _unknown_text(meant))
    if not environment_names:
        return
    known = known_names(settings) | set(KNOWN_CRYPTERS)
    known |= {f"{brand}_{kind}_PREFIX" for brand in ("WALG", "WALE") for kind in KNOWN_STORAGES}
    for name in sorted(config.environment):
        if name.startswith(("WALG_", "WALE_")) and name not in known:
            yield Mistake(name, f"environment {name}", _unknown_text(nearest(name, known)))


def _unknown_text(meant: str) -> str:
    return "is unknown" + (f", did you mean {meant}?" if meant else "")


def _storages(config: Config, catalog: Catalog) -> Iterator[Mistake]:
    asked = [kind.prefix for kind in catalog.storages.values() if config.is_set(kind.prefix)]
    for short, distribution in KNOWN_STORAGES.items():
        name = f"WALG_{short}_PREFIX"
        if name not in config.declared and (config.mentions(name) or config.mentions(f"WALE_{short}_PREFIX")):
            asked.append(name)
            yield Mistake(name, "", f"needs the distribution {distribution}: pip install {distribution}")
    if not asked:
        yield Mistake("", "", "no storage is configured: set one of WALG_FILE_PREFIX, WALG_S3_PREFIX, ...")
    if len(asked) > 1:
        yield Mistake(" and ".join(asked), "", "several storages are configured; only the first of them is used")


def _failover(config: Config, catalog: Catalog) -> Iterator[Mistake]:
    """The names inside `WALG_FAILOVER_STORAGES`: each storage is a map of storage settings with a prefix."""
    try:
        storages = config.get("WALG_FAILOVER_STORAGES") or {}
    except WalgError:
        return
    settings = [setting for kind in catalog.storages.values() for setting in kind.settings]
    prefixes = {
        name for kind in catalog.storages.values() for s in kind.settings if s.name == kind.prefix for name in s.names
    }
    prefixes |= {f"{brand}_{kind}_PREFIX" for brand in ("WALG", "WALE") for kind in KNOWN_STORAGES}
    for storage, inner in storages.items():
        where = f"WALG_FAILOVER_STORAGES: {storage}"
        if not isinstance(inner, dict):
            yield Mistake(where, "", "expected a map of settings")
            continue
        names = {str(name).upper() for name in inner}
        if not names & prefixes:
            yield Mistake(where, "", "has no storage prefix, as WALG_S3_PREFIX")
        for name, meant in unknown_names(sorted(names - prefixes), settings).items():
            yield Mistake(f"{where}: {name}", "", _unknown_text(meant))


def _codecs(config: Config, catalog: Catalog) -> Iterator[Mistake]:
    method = config.get("WALG_COMPRESSION_METHOD")
    compressor = catalog.compressors.get(method)
    if compressor is None or not compressor.writable:
        origin = with_line(config, config.origin("WALG_COMPRESSION_METHOD"))
        yield Mistake("WALG_COMPRESSION_METHOD", origin, str(catalog.unknown_method(method)))
    for each in catalog.compressors.values():
        for setting in each.settings:
            if each.name != method and config.is_set(setting.name):
                origin = with_line(config, config.origin(setting.name))
                yield Mistake(
                    setting.name, origin, f"is set but the compression method is '{method}', not '{each.name}'"
                )
    asked: dict[str, str] = {}
    for crypter in catalog.crypters.values():
        for name in crypter.selected_by:
            if name in config.declared and config.is_set(name):
                asked.setdefault(crypter.name, name)
    if len(asked) > 1:
        yield Mistake(" and ".join(asked.values()), "", "two ciphers are configured at once")
    for name, distribution in KNOWN_CRYPTERS.items():
        if name not in config.declared and config.mentions(name):
            yield Mistake(name, "", f"needs the distribution {distribution}: pip install {distribution}")


def _web_server(config: Config) -> Iterator[Mistake]:
    if config.is_set("HTTP_LISTEN"):
        return
    for name in ("HTTP_EXPOSE_PPROF", "HTTP_EXPOSE_EXPVAR"):
        try:
            exposed = config.get(name)
        except WalgError:
            continue
        if exposed:
            yield Mistake(name, with_line(config, config.origin(name)), "HTTP_LISTEN is not set")
