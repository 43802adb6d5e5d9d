"""The global part of a command line: flags that may stand anywhere on it (spec/config.md 1, 11). Without typer."""

from walg_core.errors import UsageError
from walg_core.settings.secret_sources import SUFFIXES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from walg_core.settings.declare import Setting

SWITCHES = ("--turbo", "--debug", "--strict-config")


class Line:
    """A command line taken apart: `flags` (setting → text), `switches`, `rest` (what the command itself gets)."""

    def __init__(self, flags: "Mapping[str, str]", switches: "Iterable[str]", rest: "Sequence[str]") -> None:
        self.flags = dict(flags)
        self.switches = frozenset(switches)
        self.rest = list(rest)


def early(arguments: "Sequence[str]", flag: str) -> str:
    """The value of one flag (`--config`) before it is known which flags exist; "" when it is not given."""
    found = ""
    for place, word in enumerate(arguments):
        if word == "--":
            break
        if word == flag and place + 1 < len(arguments):
            found = arguments[place + 1]
        elif word.startswith(flag + "="):
            found = word[len(flag) + 1 :]
    return found


def flag_names(settings: "Iterable[Setting]") -> dict[str, str]:
    """Every flag and the name it sets: each setting under all its names, secrets also by file and command."""
    found: dict[str, str] = {}
    for setting in settings:
        for name in setting.names:
            for each in (name, *(name + suffix for suffix in SUFFIXES)) if setting.secret else (name,):
                found["--" + each.lower().replace("_", "-")] = each
    found["--config"] = "WALG_CONFIG_PATH"
    return found


def take_apart(arguments: "Sequence[str]", settings: "Iterable[Setting]") -> Line:
    """Split off global flags wherever they stand before a bare `--`. Raises UsageError for one without its value."""
    if not any(word.startswith("--") for word in arguments):
        return Line({}, (), arguments)
    names = flag_names(settings)
    flags: dict[str, str] = {}
    switches: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, sign, value = word.partition("=")
        if word == "--":
            rest.append(word)
            rest.extend(words)
        elif flag in SWITCHES:
            if value.lower() in ("", "true", "1", "t"):
                switches.append(flag)
            elif value.lower() not in ("false", "0", "f"):
                raise UsageError(f"{flag} takes true or false, not '{value}'")
        elif flag in names:
            if not sign:
                value = next(words, None)  # type: ignore[assignment]
                if value is None:
                    raise UsageError(f"flag needs an argument: {flag}")
            flags[names[flag]] = value
        else:
            rest.append(word)
    return Line(flags, switches, rest)
