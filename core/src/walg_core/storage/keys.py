"""One validator of object keys, used on write, on list and on restore. Nothing that comes from a storage is a path."""

from walg_core.errors import PermanentError

# The bytes 0-31 and 127: no storage shows them safely and no command of ours makes them.
_CONTROL = frozenset(map(chr, [*range(32), 127]))


def key_problem(key: str) -> str | None:
    """Why `key` is not acceptable, in a few words, or None."""
    if not key:
        return "it is empty"
    if key.startswith("/"):
        return "it is absolute"
    try:
        if len(key.encode()) > 1024:
            return "it is longer than 1024 bytes"
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not _CONTROL.isdisjoint(key):
        return "it has control characters"
    if "\\" in key:
        return "it has a backslash"
    for part in key.split("/"):
        if part in ("", ".", ".."):
            return "it has an empty, '.' or '..' component"
    return None


def check_key(key: str) -> str:
    """Return `key`, or raise PermanentError when it is absolute, has `..`, empty parts, control characters…"""
    problem = key_problem(key)
    if problem:
        raise PermanentError(f"object name {key!r} is refused: {problem}", key=key)
    return key


def is_listable(name: str) -> bool:
    """Whether a name that a server listed can be an object's; what cannot is told, but for folders' markers.

    A name that ends with a slash is an empty object that stands for a folder, as consoles and Hadoop make them.
    """
    problem = key_problem(name)
    if problem and name and not name.endswith("/"):
        from walg_core.observe import log

        log.warning(f"an object is left out of the listing, its name {name!r} is not acceptable: {problem}")
    return problem is None


def check_prefix(prefix: str) -> str:
    """Return `prefix`: empty, or a valid key followed by one `/`."""
    if prefix and (not prefix.endswith("/") or key_problem(prefix[:-1])):
        raise PermanentError(f"prefix {prefix!r} is refused: it must be empty or a valid name followed by '/'")
    return prefix


def join(*parts: str) -> str:
    """Join non-empty parts with single slashes, trimming slashes at the ends of each (spec/storages.md 1)."""
    return "/".join(p for p in (part.strip("/") for part in parts) if p)
