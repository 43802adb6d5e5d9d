"""Text to value, one function per kind of setting (spec/config.md 3). No import that costs on the cold path."""

from walg_core.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRUE = frozenset(["1", "t", "T", "TRUE", "true", "True"])
_FALSE = frozenset(["0", "f", "F", "FALSE", "false", "False"])
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("expected true or false (also 1, 0, t, f)")


def parse_int(text: str) -> int:
    """Base found from the prefix (`0x`, `0o`, `0b`, leading `0` is octal), a fraction is cut off."""
    text = text.strip()
    body = text.lstrip("+-")
    if "." in body and body.replace(".", "", 1).isdigit():
        return int(float(text))
    try:
        if len(body) > 1 and body[0] == "0" and body[1:].replace("_", "").isdigit():
            return int(text, 8)
        return int(text, 0)
    except ValueError:
        raise ValueError("expected an integer") from None


def parse_count(text: str) -> int:
    value = parse_int(text)
    if value < 1:
        raise ValueError(f"value is expected to be positive but is: {value}")
    return value


def parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("expected a decimal number") from None


def parse_duration(text: str) -> float:
    """Go's duration text to seconds; `0` is the only number that may stand without a unit."""
    rest = text.strip()
    sign = -1.0 if rest.startswith("-") else 1.0
    rest = rest.lstrip("+-")
    if rest == "0":
        return 0.0
    total, found = 0.0, False
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit_end = digits
        while unit_end < len(rest) and not (rest[unit_end].isdigit() or rest[unit_end] == "."):
            unit_end += 1
        number, unit = rest[:digits], rest[digits:unit_end]
        if not number or number == "." or number.count(".") > 1 or unit not in _UNITS:
            raise ValueError("expected a duration like 1h30m, 90s or 500ms")
        total, found, rest = total + float(number) * _UNITS[unit], True, rest[unit_end:]
    if not found:
        raise ValueError("expected a duration like 1h30m, 90s or 500ms")
    return sign * total


def parse_size(text: str) -> int:
    """Bytes; `kb`, `mb`, `gb` are powers of 1024."""
    low = text.strip().lower()
    number = low.rstrip("bkmg ")
    factor = _SIZES.get(low[len(number) :].strip())
    if factor is None or not number.isdigit():
        raise ValueError("expected a number of bytes with an optional kb, mb or gb")
    return int(number) * factor


def parse_json(text: str) -> "Any":
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"expected JSON: {error}") from None


def parse_map(text: "str | dict[str, Any]") -> "dict[str, Any]":
    value = text if isinstance(text, dict) else parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("expected a map")
    return value


def parse_text(text: str) -> str:
    return text.rstrip("\r\n")


PARSERS: "dict[str, Any]" = {
    "text": parse_text,
    "path": parse_text,
    "bool": parse_bool,
    "int": parse_int,
    "count": parse_count,
    "float": parse_float,
    "duration": parse_duration,
    "size": parse_size,
    "json": parse_json,
    "map": parse_map,
}


def parse_value(name: str, kind: str, choices: tuple[str, ...], raw: "Any", *, origin: str, secret: bool) -> "Any":
    """The typed value, or ConfigError naming the setting, where its value came from and what was expected."""
    text = raw if isinstance(raw, str) or (kind == "map" and isinstance(raw, dict)) else as_text(raw)
    try:
        value = PARSERS[kind](text)
        if choices and value not in choices:
            raise ValueError(f"expected one of: {', '.join(choices)}")
    except (ValueError, TypeError, AttributeError) as error:
        shown = "" if secret else f" but is {text!r}"
        raise ConfigError(f"{name} ({origin}): {error}{shown}") from None
    return value


def _decimal(number: float) -> str:
    """Without an exponent, whatever its size."""
    if number != number:
        return "NaN"
    if number in (float("inf"), float("-inf")):
        return "+Inf" if number > 0 else "-Inf"
    digits, _, exponent = repr(number).partition("e")
    if exponent:
        from decimal import Decimal

        digits = format(Decimal(f"{digits}e{exponent}"), "f")
    return digits.removesuffix(".0")


def as_text(raw: "Any") -> str:
    """A typed value of a config file (true, 10, a list) as the text that the environment would carry: Go's form."""
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int):
        return str(raw)
    if isinstance(raw, float):
        return _decimal(raw)
    import json

    return json.dumps(raw)
