"""The authenticated chunk format of both KMS ciphers: DARE 2.0, and 1.0 to read (spec/compression-crypto.md 9)."""

import os

from walg_core.compression.framing import full_pieces
from walg_core.errors import IntegrityError
from walg_core.pipeline.reader import Reader, read_exactly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    class _Aead(Protocol):
        def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...

        def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...


AES_256_GCM, CHACHA20_POLY1305 = 0, 1
PACKAGE = 65536
_HEADER, _TAG = 16, 16
_V2, _V1 = 0x20, 0x10
_FINAL = 0x80
_HINT = "the object is damaged or truncated, or was written with another key; fetch it from another copy"


def encrypt(source: Reader, key: bytes, cipher: int = AES_256_GCM) -> "Iterator[bytes]":
    """DARE 2.0 packages of all that `source` gives; nothing for an empty source. `key` is 32 bytes."""
    return encrypt_with(source, key, cipher, os.urandom(12))


def encrypt_with(source: Reader, key: bytes, cipher: int, nonce: bytes) -> "Iterator[bytes]":
    """`encrypt` with a given stream nonce (12 bytes), which must never serve twice with the same key."""
    aead = _aead(cipher, key)
    pieces = full_pieces(source, PACKAGE)
    piece = next(pieces, b"")
    number = 0
    while piece:
        following = next(pieces, b"")
        first = nonce[0] & ~_FINAL if following else nonce[0] | _FINAL
        head = bytes((_V2, cipher)) + (len(piece) - 1).to_bytes(2, "little")
        stored = bytes((first,)) + nonce[1:]
        yield head + stored + aead.encrypt(_nonce(stored, number), piece, head)
        piece = following
        number += 1


def decrypt(
    source: Reader, key: bytes, ciphers: "Iterable[int]" = (AES_256_GCM, CHACHA20_POLY1305)
) -> "Iterator[bytes]":
    """The plain bytes, package by package, each only after its proof. Raises IntegrityError on any deviation.

    Nothing at all is an empty stream. `ciphers` are those that the scheme allows.
    """
    header = read_exactly(source, _HEADER)
    if not header:
        return
    if header[0] == _V1:
        yield from _decrypt_v1(source, header, key, tuple(ciphers))
        return
    stream = _Stream(key, tuple(ciphers), _V2)
    number, final, nonce = 0, False, b""
    while header:
        if final:
            raise _bad("invalid payload size", "bytes follow the last package")
        size, aead = stream.open(header)
        final = bool(header[4] & _FINAL)
        stored = header[4:16]
        bare = bytes((stored[0] & ~_FINAL,)) + stored[1:]
        if number and bare != nonce:
            raise _bad("header nonce mismatch", f"package {number} belongs to another stream")
        nonce = bare
        if size != PACKAGE and not final:
            raise _bad("invalid payload size", f"package {number} is short but not the last")
        yield stream.plain(aead, source, _nonce(stored, number), size, header, number)
        number += 1
        header = read_exactly(source, _HEADER)
    if not final:
        raise _bad("unexpected EOF", "the stream is cut: its last package is missing")


def _decrypt_v1(source: Reader, header: bytes, key: bytes, ciphers: tuple[int, ...]) -> "Iterator[bytes]":
    """DARE 1.0 has no end mark: a cut between packages cannot be noticed (nothing writes it any more)."""
    stream = _Stream(key, ciphers, _V1)
    number = 0
    while header:
        size, aead = stream.open(header)
        if int.from_bytes(header[4:8], "little") != number:
            raise _bad("sequence number mismatch", f"package {number} is missing or out of its place")
        yield stream.plain(aead, source, header[4:16], size, header, number)
        number += 1
        header = read_exactly(source, _HEADER)


class _Stream:
    """What all packages of a stream have in common: key, version and cipher."""

    def __init__(self, key: bytes, ciphers: tuple[int, ...], version: int) -> None:
        self._key = key
        self._ciphers = ciphers
        self._version = version
        self._cipher = -1
        self._opened: _Aead | None = None

    def open(self, header: bytes) -> "tuple[int, _Aead]":
        """The plain size that a package's header announces, and its cipher."""
        if len(header) < _HEADER:
            raise _bad("invalid payload size", "the stream is cut inside a package's header")
        if header[0] != self._version:
            raise _bad("unsupported version", f"byte {header[0]:#04x} is no version of the format")
        if header[1] not in self._ciphers or (self._opened and header[1] != self._cipher):
            raise _bad("unsupported cipher suite", f"{header[1]:#04x} is unknown, not allowed or changed on the way")
        if self._opened is None:
            self._cipher, self._opened = header[1], _aead(header[1], self._key)
        return int.from_bytes(header[2:4], "little") + 1, self._opened

    def plain(self, aead: "_Aead", source: Reader, nonce: bytes, size: int, header: bytes, number: int) -> bytes:
        from cryptography.exceptions import InvalidTag

        sealed = read_exactly(source, size + _TAG)
        if len(sealed) < size + _TAG:
            raise _bad("invalid payload size", f"the stream is cut inside package {number}")
        try:
            return aead.decrypt(nonce, sealed, header[:4])
        except InvalidTag:
            raise _bad("authentication failed", f"package {number} is not what was written with this key") from None


def _nonce(stored: bytes, number: int) -> bytes:
    return stored[:8] + (int.from_bytes(stored[8:], "little") ^ number).to_bytes(4, "little")


def _aead(cipher: int, key: bytes) -> "_Aead":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    return AESGCM(key) if cipher == AES_256_GCM else ChaCha20Poly1305(key)


def _bad(text: str, why: str) -> IntegrityError:
    return IntegrityError(f"sio: {text}: {why}", hint=_HINT)
