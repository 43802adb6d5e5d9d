"""Reading any message: recipients, the protected data, compression, the literal (spec/compression-crypto.md 6.3)."""

from walg_core.crypto.sniff import hint, looks_plain
from walg_core.errors import IntegrityError

from walg_crypto_openpgp import packets, seipd
from walg_crypto_openpgp.packets import Feed, damaged, drain, read_header, whole
from walg_crypto_openpgp.sessionkeys import Pkesk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    FindKey = Callable[[list[Pkesk]], list[tuple[int, bytes]]]

_DEPTH = 8
_OUTPUT = 1 << 20
_MAX_PKESK = 1 << 16
_MAX_RECIPIENTS = 1000


def decrypted(source: "Iterable[bytes]", find_key: "FindKey") -> "Iterator[bytes]":
    """The literal's bytes. `find_key` gives the candidates for the session key, (cipher, key), best first.

    The data have been proven only when the iterator ends without an error. Raises IntegrityError.
    """
    feed = Feed(source)
    recipients, body = _envelope(feed)
    version = next(body, b"")
    if not version:
        raise damaged("openpgp: decryption with session key failed: parsing error: the data packet is empty")
    content = Feed(_after(version, body), "openpgp: decryption with session key failed: parsing error: it is cut")
    candidates = find_key(recipients)
    plain = seipd.opened(content, candidates)
    yield from _literal(Feed(plain, "openpgp: decryption with session key failed: parsing error: it is cut"), 0)


def _after(first: bytes, rest: "Iterator[bytes]") -> "Iterator[bytes]":
    yield first
    yield from rest


def _envelope(feed: Feed) -> "tuple[list[Pkesk], Iterator[bytes]]":
    """The session key packets, and the body of the encrypted data packet that follows them."""
    recipients: list[Pkesk] = []
    head = feed.some(64)
    if not head:
        raise damaged("EOF: the object is empty")
    feed.back(head)
    if looks_plain(head) or not head[0] & 0x80:
        raise IntegrityError(
            "openpgp: invalid data: tag byte does not have MSB set: this is no OpenPGP message",
            hint=hint(head, "is the object encrypted with another cipher?"),
        )
    while header := read_header(feed):
        tag, body = header
        if tag == packets.PKESK:
            try:
                recipients.append(Pkesk(whole(body, _MAX_PKESK)))
            except IntegrityError as error:
                if "unsupported" not in str(error):
                    raise
            if len(recipients) > _MAX_RECIPIENTS:
                raise damaged("openpgp: invalid data: too many recipients")
        elif tag == packets.SEIPD:
            return recipients, body
        elif tag == packets.SED:
            raise IntegrityError("openpgp: unsupported feature: message is not integrity protected")
        elif tag == packets.AEAD_DRAFT:
            raise IntegrityError(
                "openpgp: unsupported feature: an encrypted data packet of the abandoned draft (tag 20)",
                hint="gpg writes it to keys that advertise it; encrypt with --rfc4880",
            )
        elif tag in (packets.LITERAL, packets.COMPRESSED):
            raise IntegrityError(
                "openpgp: the message is not encrypted", hint="an object must never be read as if it were protected"
            )
        else:
            drain(body)
    raise damaged("EOF: no encrypted data follow the recipients")


def _literal(feed: Feed, depth: int) -> "Iterator[bytes]":
    """The first literal's bytes; then the rest is read to its end, where the proof stands."""
    if depth > _DEPTH:
        raise damaged("openpgp: invalid data: packets are nested too deep")
    while header := read_header(feed):
        tag, body = header
        if tag == packets.LITERAL:
            literal = Feed(body, feed.cut)
            literal.take(literal.take(2)[1] + 4)
            while piece := literal.some(_OUTPUT):
                yield piece
            break
        if tag == packets.COMPRESSED:
            inner = Feed(body, feed.cut)
            yield from _literal(Feed(_inflated(inner), feed.cut), depth + 1)
            break
        if tag in (packets.SEIPD, packets.SED, packets.MDC):
            raise damaged("openpgp: decryption with session key failed: parsing error: a packet is out of its place")
        drain(body)
    else:
        raise damaged("openpgp: decryption with session key failed: parsing error: there is no literal")
    while feed.some(_OUTPUT):
        pass


def _inflated(feed: Feed) -> "Iterator[bytes]":
    """What a compressed packet holds, in bounded pieces whatever its ratio."""
    kind = feed.take(1)[0]
    if kind == 0:
        while piece := feed.some(_OUTPUT):
            yield piece
    elif kind in (1, 2):
        yield from _zlib(feed, -15 if kind == 1 else 15)
    elif kind == 3:
        yield from _bzip2(feed)
    else:
        raise damaged(f"openpgp: unsupported feature: compression algorithm {kind}")


def _zlib(feed: Feed, window: int) -> "Iterator[bytes]":
    import zlib

    decoder = zlib.decompressobj(wbits=window)
    try:
        while not decoder.eof:
            piece = decoder.unconsumed_tail or feed.some(_OUTPUT)
            if not piece:
                raise damaged("openpgp: the compressed data are cut")
            out = decoder.decompress(piece, _OUTPUT)
            if out:
                yield out
    except zlib.error as error:
        raise damaged(f"openpgp: the compressed data are damaged: {error}") from error
    while feed.some(_OUTPUT):
        pass


def _bzip2(feed: Feed) -> "Iterator[bytes]":
    import bz2

    decoder = bz2.BZ2Decompressor()
    try:
        while not decoder.eof:
            piece = feed.some(_OUTPUT) if decoder.needs_input else b""
            if decoder.needs_input and not piece:
                raise damaged("openpgp: the compressed data are cut")
            out = decoder.decompress(piece, _OUTPUT)
            if out:
                yield out
    except (OSError, ValueError) as error:
        raise damaged(f"openpgp: the compressed data are damaged: {error}") from error
    while feed.some(_OUTPUT):
        pass
