"""Writer of WAL-G's tar dialect, byte for byte (spec/postgres-backup.md 4.2): ustar, PAX only where ustar cannot.

The form is that of Go's archive/tar: zero-padded octal numbers, `ustar\\0` `00`, a PAX header only for what does not
fit, two zero blocks at the end and no further padding. `walg_core.pipeline.untar` reads it.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Entry(NamedTuple):
        """One header. Names are raw bytes; `size` in bytes, `mtime` in whole seconds (`rounded` makes them)."""

        name: bytes
        size: int = 0
        mode: int = 0
        uid: int = 0
        gid: int = 0
        uname: bytes = b""
        gname: bytes = b""
        mtime: int = 0
        type: bytes = b"0"
        link: bytes = b""
        major: int = 0
        minor: int = 0
else:
    Entry = namedtuple(
        "Entry",
        "name size mode uid gid uname gname mtime type link major minor",
        defaults=(0, 0, 0, 0, b"", b"", 0, b"0", b"", 0, 0),
        module=__name__,
    )

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
"""The end of an archive."""
FILE, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = b"0", b"2", b"3", b"4", b"5", b"6"

_SMALL, _LARGE = 1 << 21, 1 << 33
_ZEROS = bytes(BLOCK)


def rounded(nanoseconds: int) -> int:
    """A time in nanoseconds as whole seconds, halves up, as headers store it."""
    return (nanoseconds + 500_000_000) // 1_000_000_000


def padding(size: int) -> bytes:
    """The zero bytes that follow `size` bytes of data."""
    return _ZEROS[: -size % BLOCK]


def header(entry: Entry) -> bytes:
    """The header of one entry, with its PAX header before it where one is needed: a multiple of 512 bytes."""
    name = entry.name
    plain = (
        len(name) <= 100
        and name.isascii()
        and 0 <= entry.size < _LARGE
        and 0 <= entry.mtime < _LARGE
        and 0 <= entry.uid < _SMALL
        and 0 <= entry.gid < _SMALL
        and len(entry.link) <= 100
        and (entry.uname + entry.gname + entry.link).isascii()
        and len(entry.uname) <= 32
        and len(entry.gname) <= 32
    )
    if plain:
        return _ustar(entry, name, b"")
    return _unusual(entry)


def _unusual(entry: Entry) -> bytes:
    records = _records(entry)
    split = _split(entry.name)
    if split and set(records) <= {b"path"}:
        return _ustar(entry, split[1], split[0])
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    directory, _, base = entry.name.rstrip(b"/").rpartition(b"/")
    path = _join(directory, b"PaxHeaders.0", base, absolute=entry.name.startswith(b"/"))
    name, zero = _cut(_ascii(path), 100).rstrip(b"/"), b"0000000\0"
    extended = _block(name, zero, zero, zero, len(data), 0, b"x")
    return extended + data + padding(len(data)) + _ustar(entry, _cut(_ascii(entry.name), 100), b"")


def _records(entry: Entry) -> dict[bytes, bytes]:
    """What ustar cannot hold."""
    records = {}
    for key, text, width in (
        (b"path", entry.name, 100),
        (b"linkpath", entry.link, 100),
        (b"uname", entry.uname, 32),
        (b"gname", entry.gname, 32),
    ):
        if len(text) > width or not text.isascii():
            records[key] = text
    for key, number, limit in (
        (b"size", entry.size, _LARGE),
        (b"mtime", entry.mtime, _LARGE),
        (b"uid", entry.uid, _SMALL),
        (b"gid", entry.gid, _SMALL),
    ):
        if not 0 <= number < limit:
            records[key] = b"%d" % number
    return records


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`, the length counting its own digits."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix (at most 155 bytes) and name (at most 100) of a long ASCII path, or None when it cannot be split."""
    if len(name) <= 100 or not name.isascii():
        return None
    length = len(name)
    if length > 156:
        length = 156
    elif name.endswith(b"/"):
        length -= 1
    place = name.rfind(b"/", 0, length)
    rest = len(name) - place - 1
    if place <= 0 or not 0 < rest <= 100 or place > 155:
        return None
    return name[:place], name[place + 1 :]


def _join(*parts: bytes, absolute: bool) -> bytes:
    joined = b"/".join(part.strip(b"/") for part in parts if part.strip(b"/"))
    return b"/" + joined if absolute else joined


def _ascii(text: bytes) -> bytes:
    return text if text.isascii() else bytes(byte for byte in text if byte < 0x80)


def _cut(text: bytes, width: int) -> bytes:
    # A cut that happens to end in "/" would make a file look like a directory to old readers.
    return text if len(text) <= width else text[:width].rstrip(b"/")


def _octal(number: int, digits: int, limit: int) -> bytes:
    return b"%0*o\0" % (digits, number if 0 <= number < limit else 0)


def _ustar(entry: Entry, name: bytes, prefix: bytes) -> bytes:
    return _block(
        name,
        b"%07o\0" % (entry.mode & 0o7777),
        _octal(entry.uid, 7, _SMALL),
        _octal(entry.gid, 7, _SMALL),
        entry.size if entry.size < _LARGE else 0,
        entry.mtime if 0 <= entry.mtime < _LARGE else 0,
        entry.type,
        _cut(_ascii(entry.link), 100),
        b"%-32b%-32b" % (_nul(entry.uname, 32), _nul(entry.gname, 32))
        + _octal(entry.major, 7, _SMALL)
        + _octal(entry.minor, 7, _SMALL)
        + prefix,
    )


def _nul(text: bytes, width: int) -> bytes:
    return _ascii(text)[:width].ljust(width, b"\0")


def _block(
    name: bytes,
    mode: bytes,
    uid: bytes,
    gid: bytes,
    size: int,
    mtime: int,
    kind: bytes,
    link: bytes = b"",
    rest: bytes = b"",
) -> bytes:
    """512 bytes with their checksum (the sum of all bytes, the checksum's own eight counted as spaces)."""
    before = name.ljust(100, b"\0") + mode + uid + gid + b"%011o\0%011o\0" % (size, mtime)
    after = (kind + link.ljust(100, b"\0") + b"ustar\00000" + rest).ljust(BLOCK - 156, b"\0")
    return before + b"%06o\0 " % (sum(before) + sum(after) + 256) + after
