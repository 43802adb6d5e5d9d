"""Configuration files of `KEY=VALUE` lines (`.env`): quotes, `export`, comments, `$NAME` (spec/config.md 2)."""

from walg_core.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$", "`": "`"}


def parse_dotenv(text: str, file_name: str, environment: "Mapping[str, str]") -> dict[str, str]:
    """Names (as written) to values. `$NAME` and `${NAME}` stand for an earlier line's value or a variable.

    A value in single quotes is literal; in double quotes escapes and `$` work and it may span lines; a bare one
    ends at `#` or the line's end, as in the original: a password with `#` needs quotes. Raises ConfigError with
    the line's number.
    """
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        line_end = text.find("\n", at)
        line_end = len(text) if line_end < 0 else line_end
        line = text[at:line_end].strip()
        if not line or line.startswith("#"):
            at = line_end + 1
            continue
        number = text.count("\n", 0, at) + 1
        if line.startswith(("export ", "export\t")):
            at = text.index("export", at) + len("export")
        name, at = _name(text, at, line_end, f"{file_name}, line {number}")
        value, at = _value(text, at, {**environment, **values}, f"{file_name}, line {number}")
        values[name] = value
    return values


def _name(text: str, at: int, line_end: int, where: str) -> tuple[str, int]:
    sign = min(
        (place for place in (text.find("=", at, line_end), text.find(":", at, line_end)) if place >= 0), default=-1
    )
    name = text[at:sign].strip() if sign >= 0 else ""
    if not name or not set(name) <= _NAME:
        raise ConfigError(f"Failed to parse config file {where}: expected NAME=VALUE")
    return name, sign + 1


def _value(text: str, at: int, known: "Mapping[str, str]", where: str) -> tuple[str, int]:
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    quote = text[at : at + 1]
    if quote not in ("'", '"') or not quote:
        return _bare(text, at, known)
    end = at + 1
    while end < len(text) and text[end] != quote:
        end += 2 if quote == '"' and text[end] == "\\" else 1
    if end >= len(text):
        raise ConfigError(f"Failed to parse config file {where}: a quote is not closed")
    body = text[at + 1 : end]
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    rest = text[end + 1 : line_end].strip()
    if rest and not rest.startswith("#"):
        raise ConfigError(f"Failed to parse config file {where}: text after the closing quote")
    return (body if quote == "'" else _expand(body, known, escapes=True)), line_end + 1


def _bare(text: str, at: int, known: "Mapping[str, str]") -> tuple[str, int]:
    line_end = text.find("\n", at)
    line_end = len(text) if line_end < 0 else line_end
    value = text[at:line_end].split("#", 1)[0]
    return _expand(value.strip(), known, escapes=False), line_end + 1


def _expand(text: str, known: "Mapping[str, str]", *, escapes: bool) -> str:
    if "$" not in text and "\\" not in text:
        return text
    out, at = [], 0
    while at < len(text):
        mark = text[at]
        if mark == "\\" and at + 1 < len(text) and (escapes or text[at + 1] == "$"):
            out.append(_ESCAPES.get(text[at + 1], mark + text[at + 1]))
            at += 2
            continue
        name = _variable(text, at + 1) if mark == "$" else ""
        if name:
            braces = text[at + 1] == "{"
            out.append(known.get(name, ""))
            at += 1 + len(name) + 2 * braces
            continue
        out.append(mark)
        at += 1
    return "".join(out)


def _variable(text: str, at: int) -> str:
    """The name that stands after a `$` ("" when none does)."""
    if text[at : at + 1] == "{":
        end = text.find("}", at)
        name = text[at + 1 : end] if end > 0 else ""
        return name if name and name.replace("_", "a").isalnum() else ""
    end = at
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    name = text[at:end]
    return "" if name[:1].isdigit() else name
