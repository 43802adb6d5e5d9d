"""A streaming tar reader that trusts nothing: ustar, PAX, GNU long names, old v7; bounded memory; typed errors.

It accepts what WAL-G's archives contain (spec/postgres-backup.md 4.2 and 10): names with a leading slash, missing
end-of-archive blocks, missing padding after the last member, zero bytes after the end. Anything else that is not
a well-formed archive raises IntegrityError. Names are handed out as stored: only `walg_core.io.destination` turns
them into files.
"""

from collections import namedtuple
from collections.abc import Iterator

from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import CHUNK, Reader

BLOCK = 512
FILE, DIRECTORY, SYMLINK, HARDLINK, OTHER = "file", "directory", "symlink", "hardlink", "other"

LONG_NAME_LIMIT = 1 << 16
"""Bytes of a GNU long name or of one PAX value that is kept; longer ones are refused."""
PAX_LIMIT = 1 << 20
"""Bytes of one PAX header; larger ones are refused."""
HEADER_LIMIT = 32
"""Extended headers before one member; more are refused."""

_KINDS = {
    b"0": FILE, b"\0": FILE, b"7": FILE, b"1": HARDLINK, b"2": SYMLINK, b"5": DIRECTORY,
    b"3": OTHER, b"4": OTHER, b"6": OTHER,
}  # fmt: skip
_ZERO = bytes(BLOCK)
_SPACES = 8 * 0x20
_NUMBER_LIMIT = 1 << 62

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class _Fields(NamedTuple):
        name: bytes
        kind: str
        size: int
        mode: int
        mtime: int
        link: bytes
else:
    _Fields = namedtuple("_Fields", "name kind size mode mtime link", module=__name__)


class Member(_Fields):
    """One member. `name` and `link` are raw bytes as stored, `size` in bytes, `mtime` in seconds (rounded down).

    `kind` is one of FILE, DIRECTORY, SYMLINK, HARDLINK, OTHER (devices, fifos). Only a FILE has data; it is read
    through the `Archive` that gave the member, before the next one is asked for.
    """

    __slots__ = ()


class _Source:
    """A reader seen as one stretch of bytes, handed out as views into its pieces wherever possible."""

    __slots__ = ("_at", "_piece", "_reader", "position")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._piece = memoryview(b"")
        self._at = 0
        self.position = 0

    def some(self, limit: int) -> memoryview:
        """At most `limit` bytes, fewer as they come; empty only at the end."""
        if self._at == len(self._piece):
            self._piece = memoryview(self._reader.read(CHUNK))
            self._at = 0
        out = self._piece[self._at : self._at + limit]
        self._at += len(out)
        self.position += len(out)
        return out

    def exactly(self, size: int) -> bytes:
        """`size` bytes, or fewer when the end comes first."""
        first = self.some(size)
        if len(first) == size:
            return bytes(first)
        out = bytearray(first)
        while len(out) < size and (more := self.some(size - len(out))):
            out += more
        return bytes(out)


class Archive:
    """Iterates over the members of a tar stream; `read` gives the current member's data.

    Reads the stream to its very end, so that the codec below can check its trailer. Raises IntegrityError for
    everything malformed, and what the reader raises. Does not close the reader.
    """

    def __init__(self, reader: Reader, label: str = "archive") -> None:
        self._source = _Source(reader)
        self._label = label
        self._left = 0
        self._padding = 0
        self._global: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            yield member

    def read(self, size: int = CHUNK) -> memoryview:
        """At most `size` bytes of the current member's data, empty at its end. Raises when the archive ends first."""
        if not self._left:
            return memoryview(b"")
        piece = self._source.some(min(size, self._left))
        if not piece:
            raise self._bad(f"it ends {self._left} bytes before the end of a member's data: it is truncated")
        self._left -= len(piece)
        return piece

    def read_exactly(self, size: int) -> bytes:
        """Exactly `size` bytes of the member's data; IntegrityError when it has fewer left."""
        if size > self._left:
            raise self._bad("a member is shorter than its own header says")
        data = self._source.exactly(size)
        self._left -= len(data)
        if len(data) < size:
            raise self._bad(f"it ends {self._left} bytes before the end of a member's data: it is truncated")
        return data

    @property
    def left(self) -> int:
        """Bytes of the current member's data not read yet."""
        return self._left

    def _bad(self, what: str) -> IntegrityError:
        return IntegrityError(f"{self._label} is not a valid tar archive at byte {self._source.position}: {what}")

    def _skip(self) -> None:
        while self._left:
            self.read()
        padding, self._padding = self._padding, 0
        if padding:
            # Remote backups of the original may lack the padding of the last member.
            self._source.exactly(padding)

    def _next(self) -> Member | None:
        self._skip()
        extended: dict[bytes, bytes] = {}
        for _ in range(HEADER_LIMIT):
            header = self._source.exactly(BLOCK)
            if not header.strip(b"\0"):
                if extended:
                    raise self._bad("it ends after an extended header")
                self._finish(len(header))
                return None
            if len(header) < BLOCK:
                raise self._bad("it ends inside a header: it is truncated")
            self._check_sum(header)
            kind = header[156:157]
            if kind in b"xgLK" and kind:
                self._extend(kind, self._number(header, 124, 12), extended)
                continue
            return self._member(header, kind, extended)
        raise self._bad("too many extended headers before one member")

    def _finish(self, length: int) -> None:
        """After a block of zeros or the plain end of the stream: nothing but zeros may follow."""
        while length and (piece := self._source.some(CHUNK)):
            if bytes(piece).strip(b"\0"):
                raise self._bad("there is data after the end of the archive")

    def _check_sum(self, header: bytes) -> None:
        stored = self._number(header, 148, 8)
        total = sum(header) - sum(header[148:156]) + _SPACES
        if total != stored:
            # Some ancient writers summed signed bytes.
            high = sum(1 for byte in header[:148] + header[156:] if byte > 127)
            if total - 256 * high != stored:
                raise self._bad("a header's checksum is wrong")

    def _number(self, header: bytes, start: int, length: int) -> int:
        field = header[start : start + length]
        if field[0] & 0x80:
            value = int.from_bytes(field, "big") & ((1 << (8 * length - 1)) - 1)
            if field[0] & 0x40:
                raise self._bad("a negative number in a header")
        else:
            text = field.partition(b"\0")[0].strip(b" ")
            if text.strip(b"01234567"):
                raise self._bad("a number in a header is not octal")
            value = int(text, 8) if text else 0
        if value >= _NUMBER_LIMIT:
            raise self._bad("a number in a header is out of range")
        return value

    def _time(self, header: bytes, extended: dict[bytes, bytes]) -> int:
        if b"mtime" in extended:
            seconds, _, fraction = extended[b"mtime"].partition(b".")
            digits = seconds.removeprefix(b"-")
            if not digits.isdigit() or len(digits) > 18 or (fraction and not fraction.isdigit()):
                raise self._bad("a PAX time is not a number")
            return int(seconds)
        return (
            int.from_bytes(header[136:148], "big", signed=True)
            if header[136] == 0xFF
            else self._number(header, 136, 12)
        )

    def _extend(self, kind: bytes, size: int, extended: dict[bytes, bytes]) -> None:
        """Read one extended header's data into `extended` (or the global values)."""
        if size > (PAX_LIMIT if kind in b"xg" else LONG_NAME_LIMIT):
            raise self._bad(f"an extended header of {size} bytes")
        data = self._source.exactly(size)
        if len(data) < size:
            raise self._bad("it ends inside an extended header: it is truncated")
        self._source.exactly(-size % BLOCK)
        if kind == b"L":
            extended[b"path"] = data.partition(b"\0")[0]
        elif kind == b"K":
            extended[b"linkpath"] = data.partition(b"\0")[0]
        else:
            self._records(data, self._global if kind == b"g" else extended)

    def _records(self, data: bytes, into: dict[bytes, bytes]) -> None:
        at = 0
        while at < len(data):
            space = data.find(b" ", at, at + 12)
            digits = data[at:space] if space > 0 else b""
            end = at + int(digits) if digits.isdigit() else 0
            if end <= space + 1 or end > len(data) or data[end - 1 : end] != b"\n":
                raise self._bad("a PAX record is malformed")
            key, equals, value = data[space + 1 : end - 1].partition(b"=")
            if not equals or not key:
                raise self._bad("a PAX record is malformed")
            at = end
            if key in _PAX_KEYS:
                if len(value) > LONG_NAME_LIMIT:
                    raise self._bad("a PAX value is too long")
                into[key] = value
            elif key.startswith(b"GNU.sparse"):
                raise self._bad("it has a sparse member, which no database backup writes")

    def _member(self, header: bytes, kind: bytes, extended: dict[bytes, bytes]) -> Member:
        values = {**self._global, **extended} if self._global else extended
        what = _KINDS.get(kind)
        if what is None:
            raise self._bad(f"a member of unknown type {kind!r}")
        size = self._size(header, values)
        name = values.get(b"path") or self._plain_name(header)
        if what == FILE and name.endswith(b"/") and kind == b"\0":
            what = DIRECTORY
        if b"\0" in name:
            raise self._bad("a member's name has a zero byte")
        link = values.get(b"linkpath") or header[157:257].partition(b"\0")[0]
        if b"\0" in link:
            raise self._bad("a link's target has a zero byte")
        if what != FILE:
            size = 0
        self._left, self._padding = size, -size % BLOCK
        mode = self._number(header, 100, 8) & 0o7777
        return Member(name, what, size, mode, self._time(header, values), link)

    def _size(self, header: bytes, values: dict[bytes, bytes]) -> int:
        text = values.get(b"size")
        if not text:
            return self._number(header, 124, 12)
        if not text.isdigit() or len(text) > 18:
            raise self._bad("a PAX size is not a number")
        return int(text)

    def _plain_name(self, header: bytes) -> bytes:
        name = header[:100].partition(b"\0")[0]
        if header[257:263] == b"ustar\0":
            prefix = header[345:500].partition(b"\0")[0]
            if prefix:
                return prefix + b"/" + name
        return name


_PAX_KEYS = frozenset((b"path", b"linkpath", b"size", b"mtime"))
