"""Values that must never be shown. Everything that is logged or printed as an error passes through `redact`."""

HIDDEN = "--HIDDEN--"
_SHORTEST = 4
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class _State:
    values: tuple[str, ...] = ()


def hide(value: str) -> None:
    """Never show this text again, nor its forms in URLs and JSON, nor a password inside it when it is an address.

    Texts shorter than four characters are left alone: they would be found in every other word.
    """
    if value.strip() in _State.values:
        return
    forms: set[str] = set()
    for text in (value.strip(), *_passwords(value), *_long_lines(value)):
        forms.update((text, _percent(text), text.replace("\\", "\\\\").replace('"', '\\"')))
    known = forms.union(_State.values)
    _State.values = tuple(sorted((form for form in known if len(form) >= _SHORTEST), key=len, reverse=True))


def redact(text: str) -> str:
    """`text` with every hidden value replaced."""
    for value in _State.values:
        if value in text:
            text = text.replace(value, HIDDEN)
    return text


def forget() -> None:
    """Hide nothing any more (a new run in the same process)."""
    _State.values = ()


def _percent(text: str) -> str:
    return "".join(
        mark if mark in _UNRESERVED else "".join(f"%{byte:02X}" for byte in mark.encode("utf-8", "surrogateescape"))
        for mark in text
    )


def _long_lines(value: str) -> list[str]:
    """The lines of a key block: an error may quote one of them."""
    return [line.strip() for line in value.splitlines() if len(line) >= 24] if "\n" in value else []


def _passwords(value: str) -> list[str]:
    """What stands between `user:` and the last `@` of an address, and after `password=` in a connection string."""
    found = []
    head, sign, _ = value.rpartition("@")
    if sign:
        user, colon, password = head.rpartition("://")[2].partition(":")
        if colon and user:
            found.append(password)
    for part in value.replace(";", "&").replace("?", "&").split("&"):
        name, sign, rest = part.partition("=")
        if sign and name.strip().lower() in ("password", "pwd"):
            found.append(rest.strip())
    return found
