"""`Setting`: the one declaration of a setting. Light enough for the cold path (no dataclasses, no typing)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# The classes of spec/config.md 3, by what they mean.
KINDS = {
    "text": "any text",
    "path": "a path",
    "bool": "true or false",
    "int": "an integer (0x10 and 010 forms included)",
    "count": "an integer of at least 1",
    "float": "a decimal number",
    "duration": "a duration like 1h30m, 90s or 500ms",
    "size": "a number of bytes, with an optional kb, mb or gb",
    "json": "JSON text",
    "map": "a map (in the environment: JSON text)",
}


class Setting:
    """A setting's name, meaning and form.

    `name`: upper case, as in the environment. `aliases`: further names, tried in order after `name`.
    `kind`: a key of `KINDS`. `default`: the text that stands for an absent value, or None.
    `choices`: the only texts accepted. `unit`: of bare numbers, for people. `secret`: the value is never shown.
    `hidden_flag`: every setting has a flag `--lower-case-name`; these are shown only by `wal-g flags`.
    """

    __slots__ = ("aliases", "choices", "default", "help", "kind", "name", "secret", "unit")

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - the field's own term
        *,
        kind: str = "text",
        default: str | None = None,
        aliases: "Iterable[str]" = (),
        choices: "Iterable[str]" = (),
        secret: bool = False,
        unit: str = "",
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"setting {name}: unknown kind {kind!r}, one of {', '.join(KINDS)}")
        self.name = name
        self.help = help
        self.kind = kind
        self.default = default
        self.aliases = tuple(aliases)
        self.choices = tuple(choices)
        self.secret = secret
        self.unit = unit

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    @property
    def flag(self) -> str:
        """`WALG_S3_PREFIX` → `--walg-s3-prefix`."""
        return "--" + self.name.lower().replace("_", "-")

    def dump(self) -> "tuple[Any, ...]":
        """As plain values, for the discovery cache; `Setting.load` reverses it."""
        return (
            self.name,
            self.help,
            self.kind,
            self.default,
            self.aliases,
            self.choices,
            self.secret,
            self.unit,
        )

    @classmethod
    def load(cls, values: "tuple[Any, ...]") -> "Setting":
        # Hundreds are made in every cold command: a loop over the names would take four times as long.
        setting = cls.__new__(cls)
        (
            setting.name,
            setting.help,
            setting.kind,
            setting.default,
            setting.aliases,
            setting.choices,
            setting.secret,
            setting.unit,
        ) = values
        return setting

    def __repr__(self) -> str:
        return f"Setting({self.name!r}, kind={self.kind!r})"


def storage_setting(name: str, help: str, **options: "Any") -> Setting:  # noqa: A002
    """A storage's setting: the bare name, then its `WALG_` and `WALE_` twins (spec/config.md 4, storages.md 2)."""
    return Setting(name, help, aliases=(f"WALG_{name}", f"WALE_{name}"), **options)


def prefix_setting(kind: str, help: str) -> Setting:  # noqa: A002
    """The setting that selects a storage and says where: `WALG_<KIND>_PREFIX`, `WALE_<KIND>_PREFIX`."""
    return Setting(f"WALG_{kind}_PREFIX", help, aliases=(f"WALE_{kind}_PREFIX",))
