"""Configuration files: which one is read, and what is in it (spec/config.md 2, without the defects of its part 16).

A file that is there is read or the command fails: going on with the environment alone could archive into the wrong
place or without encryption. Each parser is imported only for a file of its form.
"""

import os

from walg_core.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# In the original's order of search; the forms that it finds but cannot decode are searched too, and refused.
EXTENSIONS = ("json", "toml", "yaml", "yml", "properties", "props", "prop", "hcl", "tfvars", "dotenv", "env", "ini")
_REFUSED = frozenset(("properties", "props", "prop", "hcl", "tfvars", "ini"))


def find_file(explicit: str, environment: "Mapping[str, str]") -> str:
    """The file to read, "" for none: `--config`, `WALG_CONFIG_PATH`, or `.walg.EXT` in `$HOME`, then the passwd home.

    Raises ConfigError when a file that was asked for is not there.
    """
    asked = explicit or environment.get("WALG_CONFIG_PATH", "")
    if asked:
        if not os.path.isfile(asked) and not os.path.exists(asked):
            by = "--config" if explicit else "WALG_CONFIG_PATH"
            raise ConfigError(
                f"Failed to parse config file {asked}. It does not exist ({by})", hint=f"correct or unset {by}"
            )
        return asked
    for home in _homes(environment):
        for extension in EXTENSIONS:
            path = os.path.join(home, ".walg." + extension)
            if os.path.isfile(path):
                return path
    return ""


def _homes(environment: "Mapping[str, str]") -> "list[str]":
    homes = [environment.get("HOME", "")]
    try:
        import pwd

        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    except (ImportError, KeyError):
        pass
    return [home for place, home in enumerate(homes) if home and home not in homes[:place]]


def read_file(path: str, environment: "Mapping[str, str]") -> "dict[str, Any]":
    """The file's top level, names in upper case, values as typed by its form (nested names keep their case).

    Raises ConfigError when it cannot be read, is malformed, names a setting twice, or has no known form.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"Failed to parse config file {path}. {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"Failed to parse config file {path}. It is not UTF-8 text: {error}") from error
    form = _form(path, text)
    if form in _REFUSED:
        raise ConfigError(
            f'Failed to parse config file {path}. Unsupported Config Type "{form}".', hint="use json, yaml, toml or env"
        )
    raw = _parse(form, text, path, environment)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        upper = str(key).upper()
        if upper in values:
            raise ConfigError(f"Failed to parse config file {path}. {upper} is given twice")
        values[upper] = value
    return values


def _form(path: str, text: str) -> str:
    """The extension where it is a known one, otherwise what the text looks like."""
    extension = path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path.rpartition("/")[2][1:] else ""
    if extension in EXTENSIONS:
        return {"yml": "yaml", "dotenv": "env"}.get(extension, extension)
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or lines[0].startswith("{"):
        return "json" if lines else "env"
    first = lines[0].removeprefix("export ")
    sign = min((place for place in (first.find("="), first.find(":")) if place >= 0), default=-1)
    if sign >= 0 and first[sign] == "=":
        quoted = all("=" in line and line.partition("=")[2].strip()[:1] in ('"', "'", "[", "t", "f") for line in lines)
        return "toml" if quoted and " = " in first else "env"
    return "yaml"


def _parse(form: str, text: str, path: str, environment: "Mapping[str, str]") -> "dict[str, Any]":
    if form == "env":
        from walg_core.settings.dotenv import parse_dotenv

        return dict(parse_dotenv(text, path, environment))
    try:
        value: Any
        if form == "json":
            import json

            value = json.loads(text) if text.strip() else {}
        elif form == "toml":
            import tomllib

            from walg_core.settings.go_values import plain

            value = plain(tomllib.loads(text))
        else:
            from walg_core.settings.yaml_form import parse_yaml

            value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"Failed to parse config file {path}. {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"Failed to parse config file {path}. It must be a map of settings to values")
    return value


def line_of(path: str, name: str) -> int:
    """The number of the line that sets `name` in a file (0 when it cannot be told); for messages only."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, 1):
                word = line.strip().removeprefix("export ").lstrip("{ \t\"'")
                if word[: len(name)].upper() == name and word[len(name) :].lstrip("\"' \t")[:1] in ("=", ":"):
                    return number
    except OSError:
        return 0
    return 0
