"""Names that no declaration has, and which one was probably meant."""

from walg_core.settings.secret_sources import SUFFIXES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from walg_core.settings.declare import Setting

_PREFIXES = ("WALG_", "WALE_")


def known_names(settings: "Iterable[Setting]") -> set[str]:
    """Every name that may be given: names, aliases, and the files and commands of secrets."""
    names: set[str] = set()
    for setting in settings:
        names.update(setting.names)
        if setting.secret:
            names.update(name + suffix for name in setting.names for suffix in SUFFIXES)
    return names


def unknown_names(names: "Iterable[str]", settings: "Iterable[Setting]") -> dict[str, str]:
    """The names that are unknown, each with the near known name ("" when there is none)."""
    known = known_names(settings)
    unknown = [name for name in names if name not in known]
    return {name: nearest(name, known) for name in unknown}


def nearest(name: str, known: "Iterable[str]") -> str:
    """The known name that differs by a typing error or two, "" when none does."""
    import difflib

    candidates = difflib.get_close_matches(name, known, n=3, cutoff=0.8)
    return candidates[0] if candidates else ""
