"""What is installed: a catalogue of declarations, found through entry points, cached for the cold path."""

from walg_core.declarations import CompressorType, CrypterType, Declaration, EngineType, StorageType, load
from walg_core.errors import ConfigError, MissingPlugin
from walg_core.settings.declare import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BLOCKED = "blocked by WALG_DISABLED_PLUGINS"
GROUPS = ("walg.engines", "walg.storages", "walg.compressors", "walg.crypters", "walg.plugins")

# Where a name that is not installed can be had. Engines are not listed: core names no database.
KNOWN_STORAGES = {
    kind: f"walg-storage-{name}"
    for kind, name in (("OSS", "oss"), ("S3", "s3"), ("GS", "gcs"), ("AZ", "azure"), ("SWIFT", "swift"), ("SSH", "ssh"))
}
KNOWN_CRYPTERS = {
    "WALG_PGP_KEY": "walg-crypto-openpgp",
    "WALG_PGP_KEY_PATH": "walg-crypto-openpgp",
    "GPG_KEY_ID": "walg-crypto-openpgp",
    "WALG_GPG_KEY_ID": "walg-crypto-openpgp",
    "WALE_GPG_KEY_ID": "walg-crypto-openpgp",
    "WALG_ENVELOPE_PGP_KEY": "walg-crypto-openpgp",
    "WALG_ENVELOPE_PGP_KEY_PATH": "walg-crypto-openpgp",
    "WALG_CSE_KMS_ID": "walg-crypto-awskms",
    "YC_CSE_KMS_KEY_ID": "walg-crypto-yckms",
    "WALG_LIBSODIUM_KEY": "walg-crypto-libsodium",
    "WALG_LIBSODIUM_KEY_PATH": "walg-crypto-libsodium",
}


class Plugin:
    """One entry point: where it comes from and whether it may be used (`problem` says why not)."""

    __slots__ = ("distribution", "group", "name", "problem", "target", "version")

    def __init__(
        self, group: str, name: str, target: str, distribution: str, version: str, problem: str | None = None
    ) -> None:
        self.group = group
        self.name = name
        self.target = target
        self.distribution = distribution
        self.version = version
        self.problem = problem


class Catalog:
    """All declarations of all usable plugins, the built-in ones included."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.settings: list[Setting] = []
        self.storages: dict[str, StorageType] = {}
        self.compressors: dict[str, CompressorType] = {}
        self.crypters: dict[str, CrypterType] = {}
        self.engines: dict[str, EngineType] = {}
        self.hooks: dict[str, list[str]] = {}
        """Hook name → targets of the plugins that implement it, for the hooks that are called while a command runs."""
        self.sources: tuple[str, ...] = ()
        """Files that the declarations were read from."""

    def all_settings(self, engine: str | None = None) -> list[Setting]:
        """Core's settings, those of every storage, compressor and crypter, then the engine's (which override)."""
        out = list(self.settings)
        for kind in (self.storages, self.compressors, self.crypters):
            for declaration in kind.values():
                out.extend(declaration.settings)
        if engine is not None:
            out.extend(self.engines[engine].settings)
        return out

    def compressor(self, name: str) -> "Any":
        """The compressor object called `name`; ConfigError lists the known ones."""
        if name not in self.compressors:
            raise self.unknown_method(name)
        return load(self.compressors[name].factory)

    def unknown_method(self, name: str) -> ConfigError:
        """The error for a compression method that is not installed or can only be read."""
        known = " ".join(each.name for each in self.probing_order() if each.writable)
        return ConfigError(f"Unknown compression method: '{name}', supported methods are: [{known}]")

    def by_extension(self, extension: str) -> "Any | None":
        """The compressor object for an object name's last extension, None when no method has it."""
        for declaration in self.compressors.values():
            if declaration.extension == extension:
                return load(declaration.factory)
        return None

    def probing_order(self) -> "list[CompressorType]":
        """Compressors in the order in which a reader tries their extensions."""
        return sorted(self.compressors.values(), key=lambda c: c.order)

    def dump(self) -> "dict[str, Any]":
        """As plain values, for the cache."""
        return {
            "plugins": [tuple(getattr(p, s) for s in Plugin.__slots__) for p in self.plugins],
            "settings": [s.dump() for s in self.settings],
            "hooks": self.hooks,
            **{kind: [d.dump() for d in getattr(self, kind).values()] for kind in _KINDS},
        }

    @classmethod
    def load(cls, values: "dict[str, Any]") -> "Catalog":
        catalog = cls()
        for row in values["plugins"]:
            plugin = Plugin.__new__(Plugin)
            for slot, value in zip(Plugin.__slots__, row, strict=True):
                setattr(plugin, slot, value)
            catalog.plugins.append(plugin)
        catalog.settings = [Setting.load(row) for row in values["settings"]]
        catalog.hooks = values["hooks"]
        for kind, declaration_type in _KINDS.items():
            target = getattr(catalog, kind)
            for row in values[kind]:
                declaration = declaration_type.load(row)
                target[declaration.name] = declaration
        return catalog


_KINDS: "dict[str, type[Declaration]]" = {
    "storages": StorageType,
    "compressors": CompressorType,
    "crypters": CrypterType,
    "engines": EngineType,
}


def missing_storage(kind: str) -> MissingPlugin:
    """The error for a storage prefix whose plugin is not installed."""
    distribution = KNOWN_STORAGES[kind]
    return MissingPlugin(
        f"WALG_{kind}_PREFIX is set, but its storage needs the distribution {distribution}, which is not installed",
        hint=f"run: pip install {distribution}",
    )


def missing_crypter(setting: str) -> MissingPlugin:
    """The error for a setting that asks for a cipher whose plugin is not installed."""
    distribution = KNOWN_CRYPTERS[setting]
    return MissingPlugin(
        f"{setting} asks for encryption, which needs the distribution {distribution}; it is not installed, "
        "and nothing is ever stored unencrypted instead",
        hint=f"run: pip install {distribution}",
    )


def installed(disabled: "frozenset[str]" = frozenset()) -> Catalog:
    """What is installed, from the cache where that is still true. `disabled`: names of plugins not to load."""
    from walg_core import plugin_cache

    state = plugin_cache.current_state(disabled)
    values = plugin_cache.read(state)
    if values is not None:
        try:
            return Catalog.load(values)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
    from walg_core.discovery import discover

    catalog = discover(disabled)
    if all(plugin.problem in (None, BLOCKED) for plugin in catalog.plugins):
        plugin_cache.write(state, catalog.dump(), catalog.sources)
    return catalog
