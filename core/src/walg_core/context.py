"""`Context`: what a command works with: settings, storages, compressor, crypter. Made once per run by `cli/`."""

import _thread

from walg_core.compression.framing import NonEmpty
from walg_core.declarations import load
from walg_core.errors import ConfigError
from walg_core.plugins import KNOWN_CRYPTERS, Catalog, missing_crypter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from walg_core.compression.api import Compressor
    from walg_core.crypto.api import Crypter
    from walg_core.pipeline.reader import Reader
    from walg_core.settings.config import Config
    from walg_core.storage.api import Storage


class Context:
    """Everything lazily made and shared by the threads of one run; `close` releases it.

    `engine` is the engine's name (`pg`), "" for commands of core. `turbo` lifts the rate limits.
    `program` is the argv prefix that starts this same program again (for child processes).
    `reread`, where there is a command line, makes a new context from the same one and the configuration as it is now;
    it raises ConfigError, and changes nothing, when that is not usable.
    """

    def __init__(
        self,
        config: "Config",
        catalog: Catalog,
        *,
        engine: str = "",
        turbo: bool = False,
        program: tuple[str, ...] = (),
        reread: "Callable[[], Context] | None" = None,
    ) -> None:
        self.config = config
        self.catalog = catalog
        self.engine = engine
        self.turbo = turbo
        self.program = program
        self.reread = reread
        self._storages: list[Storage] = []
        self._shared: dict[str, Any] = {}
        self._making = _thread.RLock()

    # Storages. The names follow spec/storages.md 5; without failover storages there is only the primary.

    def primary_storage(self) -> "Storage":
        """The primary storage, whether alive or not, with `WALG_STORAGE_PREFIX` and all layers applied."""
        with self._making:
            if "primary" not in self._shared:
                from walg_core.storage.registry import open_primary

                self._shared["primary"] = self._keep(open_primary(self))
            storage: Storage = self._shared["primary"]
            return storage

    def write_storage(self, target: str = "") -> "Storage":
        """The storage to write to: the one called `target` (or `WALG_TARGET_STORAGE`), else the first alive."""
        from walg_core.storage.registry import open_for_writing

        return self._keep(open_for_writing(self, target))

    def read_storages(self, target: str = "") -> "list[Storage]":
        """All alive storages, primary first (only `target` when given). Each has its `name`."""
        from walg_core.storage.registry import open_for_reading

        return [self._keep(storage) for storage in open_for_reading(self, target)]

    def read_storage(self, target: str = "") -> "Storage":
        """One read-only view of all alive storages: the first that has an object wins."""
        from walg_core.storage.registry import union

        return union(self.read_storages(target), None if target else self)

    def _keep(self, storage: "Storage") -> "Storage":
        if storage not in self._storages:
            self._storages.append(storage)
        return storage

    # Compression and encryption.

    def compressor(self) -> "Compressor":
        """The configured compressor (`WALG_COMPRESSION_METHOD`).

        Raises ConfigError for an unknown method, and when a setting of another method is set.
        """
        name = self.config.get("WALG_COMPRESSION_METHOD")
        declaration = self.catalog.compressors.get(name)
        if declaration is None or not declaration.writable:
            raise self.catalog.unknown_method(name)
        for other in self.catalog.compressors.values():
            for setting in other.settings if other is not declaration else ():
                if self.config.mentions(setting.name):
                    raise ConfigError(
                        f"{setting.name} is set but the compression method is '{name}', not '{other.name}'",
                        hint=f"unset {setting.name} or set WALG_COMPRESSION_METHOD={other.name}",
                    )
        compressor: Compressor = load(declaration.factory)
        return compressor

    def crypter(self) -> "Crypter | None":
        """The configured cipher, the same object for the whole run; None when no setting asks for one.

        Raises ConfigError when two ciphers are asked for, MissingPlugin when the one asked for is not installed.
        """
        with self._making:
            if "crypter" not in self._shared:
                self._shared["crypter"] = self._make_crypter()
            crypter: Crypter | None = self._shared["crypter"]
            return crypter

    def _make_crypter(self) -> "Crypter | None":
        config = self.config
        asked: dict[str, str] = {}
        for declaration in self.catalog.crypters.values():
            config.declare(declaration.settings)
            for name in declaration.selected_by:
                if config.is_set(name):
                    asked.setdefault(declaration.name, name)
                elif config.is_blank(name):
                    raise ConfigError(
                        f"{name} is empty in {config.file_name}; nothing is ever stored unencrypted instead",
                        hint=f"give {name} a value, or remove it from the file",
                    )
        if len(asked) > 1:
            raise ConfigError(
                f"two ciphers are configured at once: {' and '.join(asked.values())}; nothing says which one to use",
                hint="unset all but one of these settings",
            )
        if asked:
            crypter: Crypter = load(self.catalog.crypters[next(iter(asked))].factory)(config)
            return crypter
        for name in KNOWN_CRYPTERS:
            if config.mentions(name):
                raise missing_crypter(name)
        self._refuse_half_a_request()
        return None

    def _refuse_half_a_request(self) -> None:
        """A setting of a cipher without the one that selects it: someone believes that objects are encrypted."""
        for declaration in self.catalog.crypters.values():
            for setting in declaration.settings:
                asking = setting.name.startswith("WALG_") and setting.default is None
                if asking and self.config.is_set(setting.name):
                    raise ConfigError(
                        f"{setting.name} is set, but no cipher is selected; nothing is ever stored unencrypted instead",
                        hint=f"set one of {', '.join(declaration.selected_by)}, or unset {setting.name}",
                    )

    def encode(self, source: "Reader", *, compress: bool = True) -> "tuple[Reader, str]":
        """`source` compressed and encrypted as configured, and the extension with its dot ("" for none)."""
        extension = ""
        if compress:
            compressor = self.compressor()
            source = compressor.compress(source, self.config)
            extension = "." + compressor.extension if compressor.extension else ""
        crypter = self.crypter()
        return (crypter.encrypt(source) if crypter else source), extension

    def decode(self, source: "Reader", extension: str) -> "Reader":
        """Decrypted as configured and decompressed by `extension` (without dot; "" for none).

        Raises ConfigError for an extension that no compressor has.
        """
        crypter = self.crypter()
        if crypter:
            source = crypter.decrypt(source)
            if extension:
                source = NonEmpty(source)
        if not extension:
            return source
        compressor: Compressor | None = self.catalog.by_extension(extension)
        if compressor is None:
            raise ConfigError(f"WAL-G does not support the file format '{extension}'")
        return compressor.decompress(source)

    def close(self) -> None:
        """Close the storages. Idempotent."""
        while self._storages:
            self._storages.pop().close()
        self._shared.clear()
