"""OpenPGP packets: headers, bodies of any length form, and the buffered feed that they are read from (RFC 9580 4.2)."""

from walg_core.errors import IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PKESK, SIGNATURE, SKESK, ONE_PASS, SECRET_KEY, PUBLIC_KEY, SECRET_SUBKEY = 1, 2, 3, 4, 5, 6, 7
COMPRESSED, SED, MARKER, LITERAL, TRUST, USER_ID, PUBLIC_SUBKEY = 8, 9, 10, 11, 12, 13, 14
ATTRIBUTE, SEIPD, MDC, AEAD_DRAFT, PADDING = 17, 18, 19, 20, 21
_PIECE = 1 << 18
PARTIAL = 15
"""Written partial bodies have chunks of 2**15 bytes, the largest that the original writes."""


def damaged(why: str) -> IntegrityError:
    return IntegrityError(why, hint="the object is damaged or truncated; fetch it from another copy")


class Feed:
    """Bytes of a source in exact or any amounts. `cut` is the error's text when it ends too early."""

    def __init__(self, pieces: "Iterable[bytes]", cut: str = "unexpected EOF") -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self.cut = cut

    def some(self, limit: int) -> bytes:
        """Between 1 and `limit` bytes; empty at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        if len(self._rest) <= limit:
            out, self._rest = self._rest, b""
        else:
            out, self._rest = self._rest[:limit], self._rest[limit:]
        return out

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises IntegrityError at an early end."""
        out = self.some(size)
        if len(out) == size:
            return out
        parts, have = [out], len(out)
        while have < size:
            piece = self.some(size - have)
            if not piece:
                raise damaged(self.cut)
            parts.append(piece)
            have += len(piece)
        return b"".join(parts)

    def back(self, data: bytes) -> None:
        self._rest = data + self._rest


def read_header(feed: Feed) -> "tuple[int, Iterator[bytes]] | None":
    """The next packet's tag and an iterator of its body's pieces; None at the end. The body must be used up first."""
    first = feed.some(1)
    if not first:
        return None
    value = first[0]
    if not value & 0x80:
        raise damaged("openpgp: invalid data: tag byte does not have MSB set")
    if value & 0x40:
        return value & 0x3F, _new_body(feed)
    kind = value & 3
    if kind == 3:
        return value >> 2 & 15, _rest_of(feed)
    return value >> 2 & 15, _exactly(feed, int.from_bytes(feed.take(1 << kind), "big"))


def _new_body(feed: Feed) -> "Iterator[bytes]":
    while True:
        size, partial = _length(feed)
        yield from _exactly(feed, size)
        if not partial:
            return


def _length(feed: Feed) -> tuple[int, bool]:
    first = feed.take(1)[0]
    if first < 192:
        return first, False
    if first < 224:
        return (first - 192 << 8) + feed.take(1)[0] + 192, False
    if first == 255:
        return int.from_bytes(feed.take(4), "big"), False
    return 1 << (first & 31), True


def _exactly(feed: Feed, size: int) -> "Iterator[bytes]":
    while size:
        piece = feed.some(min(size, _PIECE))
        if not piece:
            raise damaged(feed.cut)
        size -= len(piece)
        yield piece


def _rest_of(feed: Feed) -> "Iterator[bytes]":
    while piece := feed.some(_PIECE):
        yield piece


def whole(body: "Iterator[bytes]", limit: int = 1 << 20) -> bytes:
    """A small packet's body. Raises IntegrityError when it is larger than `limit` bytes."""
    parts, have = [], 0
    for piece in body:
        have += len(piece)
        if have > limit:
            raise damaged(f"an OpenPGP packet that should be small has more than {limit} bytes")
        parts.append(piece)
    return b"".join(parts)


def drain(body: "Iterable[bytes]") -> None:
    for _ in body:
        pass


class Fields:
    """The fields of a packet in memory, one after the other. Raises IntegrityError when there are too few bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        out = self.data[self.at : self.at + size]
        if len(out) < size:
            raise damaged("an OpenPGP packet ends inside one of its fields")
        self.at += size
        return out

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def mpi(self) -> int:
        return int.from_bytes(self.mpi_bytes(), "big")

    def mpi_bytes(self) -> bytes:
        return self.take((self.number(2) + 7) // 8)

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)

    @property
    def left(self) -> int:
        return len(self.data) - self.at


def mpi(value: "int | bytes") -> bytes:
    number = int.from_bytes(value, "big") if isinstance(value, bytes) else value
    bits = number.bit_length()
    return bits.to_bytes(2, "big") + number.to_bytes((bits + 7) // 8, "big")


def length_octets(size: int) -> bytes:
    if size < 192:
        return bytes((size,))
    if size < 8384:
        return bytes(((size - 192 >> 8) + 192, size - 192 & 0xFF))
    return b"\xff" + size.to_bytes(4, "big")


def packet(tag: int, body: bytes) -> bytes:
    return bytes((0xC0 | tag,)) + length_octets(len(body)) + body


class PartialWriter:
    """A packet whose length is not known yet: definite when it stays small, else partial chunks and a definite rest."""

    def __init__(self, tag: int) -> None:
        self._start = bytes((0xC0 | tag,))
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """What can be written once `data` has come."""
        data = self._rest + data if self._rest else data
        size = 1 << PARTIAL
        # One byte stays back, so that what ends exactly here gets a definite length in any case.
        count = max(0, len(data) - 1) // size
        if not count:
            self._rest = data
            return b""
        mark = bytes((0xE0 | PARTIAL,))
        out = [self._start]
        for at in range(0, count * size, size):
            out += [mark, data[at : at + size]]
        self._start, self._rest = b"", data[count * size :]
        return b"".join(out)

    def finish(self) -> bytes:
        return self._start + length_octets(len(self._rest)) + self._rest
