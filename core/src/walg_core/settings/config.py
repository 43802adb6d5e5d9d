"""Reading settings: flag > environment > file > default, one setting at a time, with its origin."""

from walg_core.errors import ConfigError
from walg_core.observe.redact import hide
from walg_core.settings.declare import Setting
from walg_core.settings.parse import parse_value
from walg_core.settings.secret_sources import SUFFIXES, fetch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class Config:
    """The settings of one run, looked up lazily by declared name.

    `flags` and `file` map upper-case names to raw values; `environment` is usually `os.environ` (an empty variable
    counts as absent). A `parent` makes this a nested configuration (a failover storage, `copy --from`): what is
    not found here under any of the setting's names is looked up in the parent by its bare name only
    (spec/storages.md 2).
    """

    def __init__(
        self,
        settings: "Iterable[Setting]" = (),
        *,
        flags: "Mapping[str, str] | None" = None,
        environment: "Mapping[str, str] | None" = None,
        file: "Mapping[str, Any] | None" = None,
        file_name: str = "",
        parent: "Config | None" = None,
    ) -> None:
        self.declared: dict[str, Setting] = {}
        self.flags = dict(flags or {})
        self.environment = environment if environment is not None else {}
        self.file = dict(file or {})
        self.file_name = file_name
        self.parent = parent
        self._fetched: dict[str, str] = {}
        self.declare(settings)

    def declare(self, settings: "Iterable[Setting]") -> None:
        """Make settings readable; declaring one twice replaces the earlier declaration (an engine's other default)."""
        for setting in settings:
            self.declared[setting.name] = setting

    def setting(self, name: str) -> Setting:
        """The declaration; reading an undeclared name is a programming error (LookupError)."""
        try:
            return self.declared[name]
        except KeyError:
            raise LookupError(f"setting {name} is read but never declared") from None

    def find(self, name: str) -> "tuple[Any, str] | None":
        """The raw value and its origin (`flag --x`, `environment X`, `file F: X`), not counting the default.

        A secret may come from `NAME_FILE` or `NAME_COMMAND`; reading that raises ConfigError. What is read of a
        secret is never shown from then on, in whichever (nested) configuration it stands.
        """
        located = self._locate(name)
        if located is None:
            return None
        raw, origin, suffix = located
        if not suffix:
            if isinstance(raw, str) and self.declared[name].secret and self.declared[name].kind != "map":
                hide(raw)
            return raw, origin
        if name not in self._fetched:
            self._fetched[name] = fetch(suffix, str(raw), origin)
        return self._fetched[name], origin

    def _locate(self, name: str) -> "tuple[Any, str, str] | None":
        """What gives the value: raw text, origin, and "" or the suffix of a secret's other source."""
        setting = self.setting(name)
        suffixes = ("", *SUFFIXES) if setting.secret else ("",)
        for suffix in suffixes:
            for each in setting.names:
                taken = suffix and each + suffix in self.declared
                found = None if taken else self._look_up(each + suffix)
                if found:
                    return (*found, suffix)
        for suffix in suffixes if self.parent else ():
            found = self.parent._look_up(name + suffix) if self.parent else None
            if found:
                return (*found, suffix)
        return None

    def mentions(self, name: str) -> bool:
        """Whether a flag, variable or file gives `name`, declared or not, or a file or command for it."""
        return any(self._look_up(name + suffix) for suffix in ("", *SUFFIXES))

    def _look_up(self, name: str) -> "tuple[Any, str] | None":
        if name in self.flags:
            return self.flags[name], "flag --" + name.lower().replace("_", "-")
        if value := self.environment.get(name):
            return value, f"environment {name}"
        value = self.file.get(name)
        if value is not None and value != "":
            return value, f"file {self.file_name}: {name}"
        return None

    def is_blank(self, name: str) -> bool:
        """Whether the configuration file names it with an empty text, and nothing else gives a value."""
        return not self.is_set(name) and any(self.file.get(each) == "" for each in self.setting(name).names)

    def origin(self, name: str) -> str:
        """Where the value comes from: a flag, a variable, a file, `default`, or `unset`."""
        located = self._locate(name)
        if located:
            return located[1]
        return "default" if self.setting(name).default is not None else "unset"

    def is_set(self, name: str) -> bool:
        """Whether a flag, variable or file gives a value (a default does not count)."""
        return self._locate(name) is not None

    def get(self, name: str) -> "Any":
        """The typed value; None without value and default. Raises ConfigError on a malformed value."""
        setting = self.setting(name)
        found = self.find(name)
        raw, origin = found or (setting.default, "default")
        if raw is None:
            return None
        return parse_value(name, setting.kind, setting.choices, raw, origin=origin, secret=setting.secret)

    def require(self, name: str) -> "Any":
        """Like `get`, but a missing value raises ConfigError that says how to set it."""
        value = self.get(name)
        if value is None:
            flag = self.setting(name).flag
            raise ConfigError(
                f"Required variable {name} is not set. You can set is using {flag} flag or variable {name}"
            )
        return value

    def nested(self, values: "Mapping[str, Any]", file_name: str) -> "Config":
        """A configuration of its own for a failover storage or the other side of a copy, this one being its parent."""
        upper = {key.upper(): value for key, value in values.items()}
        return Config(self.declared.values(), file=upper, file_name=file_name, parent=self)
