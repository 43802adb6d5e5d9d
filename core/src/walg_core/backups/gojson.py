"""JSON as Go writes it: compact, keys in the given order, `<>&` escaped (spec/stream-backups.md 3).

A cold command writes its sentinel with it: the package `json`, which costs an eighth of such a command, stays out.
"""

from _json import encode_basestring as _quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_SEPARATORS = {"\u2028": "\\u2028", "\u2029": "\\u2029"}


def format_float(value: float) -> str:
    """Go's form: the shortest digits, integers without `.0`, exponents below 1e-6 and from 1e21 on."""
    text = repr(value)
    magnitude = abs(value)
    if magnitude and (magnitude < 1e-6 or magnitude >= 1e21):
        mantissa, _, exponent = text.partition("e")
        if not exponent:
            mantissa, _, exponent = f"{value:e}".partition("e")
            mantissa = mantissa.rstrip("0").rstrip(".")
        sign, digits = exponent[0], exponent[1:].lstrip("0")
        # Go writes e-07 as e-7 but keeps two digits from e-10 and e+21 on.
        return f"{mantissa.removesuffix('.0')}e{sign}{digits}"
    if "e" in text:
        # Between 1e-6 and 1e21 Go never uses an exponent; Decimal expands the shortest digits exactly.
        from decimal import Decimal

        text = f"{Decimal(text):f}"
    return text.removesuffix(".0")


def _text(value: "Any", step: str | None, margin: str) -> str:
    """One value; `step` is the indentation of a level, None for a text on one line."""
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if value - value:
            raise ValueError(f"{value} cannot be written as JSON")
        return format_float(value)
    inner = margin + (step or "")
    if isinstance(value, dict):
        colon = ":" if step is None else ": "
        items = [f"{_quoted(str(key))}{colon}{_text(item, step, inner)}" for key, item in value.items()]
        return _enclosed("{", items, "}", step, margin)
    if isinstance(value, (list, tuple)):
        return _enclosed("[", [_text(item, step, inner) for item in value], "]", step, margin)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _enclosed(begin: str, items: list[str], end: str, step: str | None, margin: str) -> str:
    if step is None or not items:
        return begin + ",".join(items) + end
    line = "\n" + margin + step
    return begin + line + ("," + line).join(items) + "\n" + margin + end


def user_data(value: "Any") -> "Any":
    """User data the way Go re-writes it: maps with their keys sorted."""
    if isinstance(value, dict):
        return {str(key): user_data(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [user_data(item) for item in value]
    return value


def dumps(value: "Any", *, escape_html: bool = True, indent: int | None = None) -> bytes:
    """UTF-8 text without a trailing newline; keys in the order of the dictionaries; no white space unless `indent`.

    Raises ValueError for NaN and infinities, TypeError for what JSON cannot hold.
    """
    text = _text(value, None if indent is None else " " * indent, "")
    escapes = {**_SEPARATORS, **(_HTML if escape_html else {})}
    for character, escape in escapes.items():
        if character in text:
            text = text.replace(character, escape)
    # \b and \f are in their short forms and DEL is written plainly, as by Go since 1.22.
    return text.encode("utf-8", "surrogatepass")
