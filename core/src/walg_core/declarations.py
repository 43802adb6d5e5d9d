"""What plugins declare: plain data, so that listing plugins imports none of them and the cold path can cache it.

Every factory is an import path `package.module:attribute`, resolved by `load` when the thing is really used.
"""

from walg_core.settings.declare import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Self

    ColdForm = tuple[int, tuple[str, ...]] | tuple[int, tuple[str, ...], tuple[str, ...]]


def load(path: str) -> "Any":
    """Import `package.module:attribute` and return the attribute."""
    module, _, attribute = path.partition(":")
    imported = __import__(module, fromlist=["_"])
    return getattr(imported, attribute)


class Declaration:
    """Base: equality and (de)serialisation over `_fields`; `settings` is a tuple of `Setting`."""

    name: str
    settings: tuple[Setting, ...]
    _fields: tuple[str, ...] = ()

    def dump(self) -> "dict[str, Any]":
        """As plain values (marshal-able)."""
        out: dict[str, Any] = {field: getattr(self, field) for field in self._fields}
        if "settings" in out:
            out["settings"] = tuple(setting.dump() for setting in out["settings"])
        return out

    @classmethod
    def load(cls, values: "Mapping[str, Any]") -> "Self":
        made = cls.__new__(cls)
        for field, value in values.items():
            setattr(made, field, tuple(map(Setting.load, value)) if field == "settings" else value)
        return made

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.dump() == other.dump()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class StorageType(Declaration):
    """A kind of storage.

    `prefix`: the name of the setting that selects it (`WALG_S3_PREFIX`, itself among `settings`).
    `factory`: import path of `(config: Config, prefix: str) -> Storage`; it must not touch the network.
    `order`: where several prefixes are set, the lowest wins (spec/storages.md 2); third parties leave 100.
    """

    _fields = ("factory", "name", "order", "prefix", "schemes", "settings")

    def __init__(
        self,
        name: str,
        *,
        prefix: str,
        factory: str,
        schemes: "Iterable[str]" = (),
        settings: "Iterable[Setting]" = (),
        order: int = 100,
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.factory = factory
        self.schemes = tuple(schemes)
        self.settings = tuple(settings)
        self.order = order


class CompressorType(Declaration):
    """A compression method. `factory`: import path of an object with the members of `compression.api.Compressor`.

    `order`: the place in the probing order of readers (spec/compression-crypto.md 4). `writable`: may be chosen.
    """

    _fields = ("extension", "factory", "name", "order", "settings", "writable")

    def __init__(
        self,
        name: str,
        *,
        extension: str,
        factory: str,
        writable: bool = True,
        settings: "Iterable[Setting]" = (),
        order: int = 100,
    ) -> None:
        self.name = name
        self.extension = extension
        self.factory = factory
        self.writable = writable
        self.settings = tuple(settings)
        self.order = order


class CrypterType(Declaration):
    """A cipher. `factory`: import path of `(config: Config) -> Crypter`, which may read keys but not the network.

    `selected_by`: settings any of which, when set, asks for this cipher. Two ciphers asked for is an error.
    """

    _fields = ("factory", "name", "order", "selected_by", "settings")

    def __init__(
        self,
        name: str,
        *,
        factory: str,
        selected_by: "Iterable[str]",
        settings: "Iterable[Setting]" = (),
        order: int = 100,
    ) -> None:
        self.name = name
        self.factory = factory
        self.selected_by = tuple(selected_by)
        self.settings = tuple(settings)
        self.order = order


class EngineType(Declaration):
    """A database engine.

    `title`: what `--version` prints (`PostgreSQL`). `app`: import path of its `typer.Typer`, whose commands stand
    at the top level or under `name`. `cold`: command name → `module:function`, run without typer as
    `function(context: Context, arguments: list[str], options: dict[str, str | bool]) -> int` (the exit status);
    the number of positional arguments, the options with a value and the switches that it takes are in `cold_forms`
    (name → (count, options) or (count, options, switches)).
    `settings`: its settings; one of the same name as a core setting replaces that (another default).
    `required`: settings that every command of it needs.
    `failure_status`: command → the setting that holds its exit status for every failure, also one of the frame
    (a broken configuration file), where the caller takes 1 for an answer.
    `without_storage`: commands that run where no storage is configured.
    """

    _fields = (
        "app",
        "cold",
        "cold_forms",
        "failure_status",
        "name",
        "required",
        "settings",
        "title",
        "without_storage",
    )

    def __init__(
        self,
        name: str,
        *,
        title: str,
        app: str,
        cold: "Mapping[str, str] | None" = None,
        cold_forms: "Mapping[str, ColdForm] | None" = None,
        settings: "Iterable[Setting]" = (),
        required: "Iterable[str]" = (),
        failure_status: "Mapping[str, str] | None" = None,
        without_storage: "Iterable[str]" = (),
    ) -> None:
        self.name = name
        self.title = title
        self.app = app
        self.cold = dict(cold or {})
        self.cold_forms = dict(cold_forms or {})
        self.settings = tuple(settings)
        self.required = tuple(required)
        self.failure_status = dict(failure_status or {})
        self.without_storage = tuple(without_storage)
