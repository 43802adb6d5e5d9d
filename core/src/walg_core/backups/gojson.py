"""JSON as Go writes it: compact, keys in the given order, `<>&` escaped (spec/stream-backups.md 3)."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from math import isfinite
from typing import Any

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_SEPARATORS = {"\u2028": "\\u2028", "\u2029": "\\u2029"}


# A noncharacter, which no JSON text from outside may contain.
_MARK = "\ufdd0"
_MARKED = re.compile(f'"{_MARK}([^"]*){_MARK}"')


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
        text = f"{Decimal(text):f}"
    return text.removesuffix(".0")


def _prepare(value: Any, sort: bool) -> Any:
    if isinstance(value, float) and isfinite(value):
        # The encoder insists on Python's own form of a float; the text is put in its place afterwards.
        return f"{_MARK}{format_float(value)}{_MARK}"
    if isinstance(value, dict):
        items = sorted(value.items()) if sort else value.items()
        return {str(key): _prepare(item, sort) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_prepare(item, sort) for item in value]
    return value


def user_data(value: Any) -> Any:
    """User data the way Go re-writes it: maps with their keys sorted."""
    return _prepare(value, sort=True)


def dumps(value: Any, *, escape_html: bool = True, indent: int | None = None) -> bytes:
    """UTF-8 text without a trailing newline; keys in the order of the dictionaries; no white space unless `indent`.

    Raises ValueError for NaN and infinities, TypeError for what JSON cannot hold.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(
        _prepare(value, sort=False), ensure_ascii=False, separators=separators, indent=indent, allow_nan=False
    )
    if _MARK in text:
        text = _MARKED.sub(r"\1", text)
    escapes = {**_SEPARATORS, **(_HTML if escape_html else {})}
    for character, escape in escapes.items():
        if character in text:
            text = text.replace(character, escape)
    # json writes \b and \f in their short forms and DEL plainly, as Go does since 1.22.
    return text.encode("utf-8", "surrogatepass")
