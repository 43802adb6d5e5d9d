"""The whole configuration as one pydantic-settings model, built from the same declarations as everything else.

Used where all settings are wanted at once (`config check`, `config schema`); a command reads single ones (`Config`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from walg_core.errors import ConfigError
from walg_core.settings.config import Config
from walg_core.settings.declare import KINDS, Setting
from walg_core.settings.parse import PARSERS, as_text
from walg_core.settings.secret_sources import SUFFIXES

_BOOLEANS = "^([1tTfF0]|true|false|True|False|TRUE|FALSE)$"
_TEXT = {"type": "string"}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "text": {"type": ["string", "number", "boolean"]},
    "path": _TEXT,
    "bool": {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": _BOOLEANS}, {"enum": [0, 1]}]},
    "int": {"type": ["integer", "string"]},
    "count": {"anyOf": [{"type": "integer", "minimum": 1}, _TEXT]},
    "float": {"type": ["number", "string"]},
    "duration": {"anyOf": [{"type": "string", "pattern": "^[-+]?([0-9.]+(ns|us|µs|μs|ms|s|m|h))+$|^0$"}, {"const": 0}]},
    "size": {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^ *[0-9]+ *([kmgKMG]?[bB])? *$"}]
    },
    "json": {},
    "map": {"type": ["object", "string"]},
}


class _Declared(PydanticBaseSettingsSource):
    """Our precedence (flag, environment, file) as a source of pydantic-settings."""

    def __init__(self, settings_cls: type[BaseSettings], config: Config) -> None:
        super().__init__(settings_cls)
        self._config = config

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        found = self._config.find(field_name)
        return (found[0] if found else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {}
        for name, field in self.settings_cls.model_fields.items():
            try:
                value = self.get_field_value(field, name)[0]
            except ConfigError as error:
                value = _Unreadable(str(error))
            if value is not None:
                values[name] = value
        return values


class _Unreadable:
    """Stands for a secret whose file or command failed, so that the reason is reported with the other mistakes."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def build_model(settings: Iterable[Setting], config: Config | None = None) -> type[BaseSettings]:
    """A model with one field per setting (names as in the environment); its instances hold parsed values.

    With a `config`, instantiating it without arguments reads that; without one it takes keyword arguments only.
    """

    class Base(BaseSettings):
        model_config = SettingsConfigDict(extra="forbid", case_sensitive=True, validate_default=False)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ours stands for it and the next two
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, _Declared(settings_cls, config)) if config else (init_settings,)

    fields: dict[str, Any] = {setting.name: _field(setting) for setting in settings}
    return create_model("Configuration", __base__=Base, **fields)


def _field(setting: Setting) -> tuple[Any, Any]:
    default = None if setting.default is None else _parse(setting, setting.default)
    schema: dict[str, Any] = dict(_SCHEMAS[setting.kind])
    if setting.choices:
        schema = {"enum": list(setting.choices)}
    if setting.secret:
        schema["writeOnly"] = True
    unit = f" [{setting.unit}]" if setting.unit else ""
    schema["description"] = f"{setting.help}{unit}; {KINDS[setting.kind]}"
    kind: Any = Annotated[Any, BeforeValidator(partial(_parse, setting)), WithJsonSchema(schema)]
    return kind, Field(default=default)


def _parse(setting: Setting, raw: Any) -> Any:
    if isinstance(raw, _Unreadable):
        raise ValueError(raw.reason)
    text = raw if isinstance(raw, str) or (setting.kind == "map" and isinstance(raw, dict)) else as_text(raw)
    try:
        value = PARSERS[setting.kind](text)
        if setting.choices and value not in setting.choices:
            raise ValueError(f"expected one of: {', '.join(setting.choices)}")
    except ValueError as error:
        shown = "" if setting.secret else f" but is {text!r}"
        raise ValueError(f"{error}{shown}") from None
    return value


def validate(config: Config) -> dict[str, str]:
    """Every malformed value at once: setting → what is wrong with it."""
    try:
        build_model(config.declared.values(), config)()
    except ValidationError as error:
        return {
            str(each["loc"][0]): each["msg"].removeprefix("Value error, ")
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        }
    return {}


def json_schema(settings: Iterable[Setting]) -> dict[str, Any]:
    """The JSON schema of a configuration file: every name and alias, secrets also by file and command."""
    declared = list(settings)
    schema = build_model(declared).model_json_schema()
    properties: dict[str, Any] = schema.get("properties", {})
    for setting in declared:
        own = {key: value for key, value in properties[setting.name].items() if key not in ("title", "default")}
        if setting.default is not None:
            own["default"] = setting.default
        properties[setting.name] = own
        for alias in setting.aliases:
            properties.setdefault(alias, {**own, "description": f"alias of {setting.name}"})
        for name in setting.names if setting.secret else ():
            for suffix, meaning in zip(SUFFIXES, ("file that holds", "shell command that prints"), strict=True):
                properties.setdefault(name + suffix, {**_TEXT, "description": f"{meaning} {setting.name}"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "wal-g configuration",
        "type": "object",
        "properties": dict(sorted(properties.items())),
        "additionalProperties": False,
    }
