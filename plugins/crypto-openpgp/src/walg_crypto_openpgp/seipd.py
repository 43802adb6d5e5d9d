"""Integrity-protected data packets: version 1 (CFB with a modification detection code) and 2 (AEAD), RFC 9580 5.13."""

import hashlib
from hmac import compare_digest

from walg_core.errors import IntegrityError

from walg_crypto_openpgp import algorithms as alg
from walg_crypto_openpgp.packets import Feed, damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MDC = 22
_PIECE = 1 << 20
_TAG = 16
_BAD_PROOF = "openpgp: invalid signature: MDC hash mismatch: the data are not what was written"


def opened(content: Feed, candidates: list[tuple[int, bytes]]) -> "Iterator[bytes]":
    """The packets inside. `content` begins with the version; `candidates` are (cipher, session key).

    Only a session key that is the right size is tried; the proof decides. Raises IntegrityError.
    """
    version = content.take(1)[0]
    if version == 1:
        good = [(cipher, key) for cipher, key in candidates if cipher]
        if not good:
            raise _no_key()
        return _version_1(content, *good[0])
    if version == 2:
        return _version_2(content, candidates)
    raise IntegrityError(f"openpgp: unsupported feature: encrypted data version {version}")


def _no_key() -> IntegrityError:
    return IntegrityError("openpgp: incorrect key", hint="the message is for other recipients than the configured key")


def _version_1(content: Feed, cipher: int, key: bytes) -> "Iterator[bytes]":
    block = alg.CIPHERS[cipher][1]
    decryptor = alg.cfb(cipher, key, bytes(block)).decryptor()
    proof = hashlib.sha1(usedforsecurity=False)
    # The two repeated octets of the prefix are not checked: telling whether they fit would be an oracle.
    proof.update(decryptor.update(content.take(block + 2)))
    held = b""
    while piece := content.some(_PIECE):
        plain = held + decryptor.update(piece)
        held = plain[-_MDC:]
        plain = plain[:-_MDC]
        if plain:
            proof.update(plain)
            yield plain
    if len(held) < _MDC or held[:2] != b"\xd3\x14":
        raise damaged("openpgp: decryption with session key failed: parsing error: the proof of the data is missing")
    proof.update(held[:2])
    if not compare_digest(proof.digest(), held[2:]):
        raise damaged(_BAD_PROOF)


def _version_2(content: Feed, candidates: list[tuple[int, bytes]]) -> "Iterator[bytes]":
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    cipher, mode, exponent = content.take(3)
    salt = content.take(32)
    if cipher not in (alg.AES_128, alg.AES_192, alg.AES_256) or mode not in alg.NONCES or exponent > 16:
        raise IntegrityError(
            f"openpgp: unsupported feature: cipher {cipher}, AEAD mode {mode}, chunks 2^{exponent + 6}"
        )
    key_size, _ = alg.CIPHERS[cipher]
    session_key = next((key for _, key in candidates if len(key) == key_size), None)
    if session_key is None:
        raise _no_key()
    nonce_size = alg.NONCES[mode]
    info = bytes((0xD2, 2, cipher, mode, exponent))
    made = HKDF(SHA256(), key_size + nonce_size - 8, salt, info).derive(session_key)
    aead, start = alg.aead(mode, made[:key_size]), made[key_size:]
    size = (1 << (exponent + 6)) + _TAG
    index = total = 0
    held = _up_to(content, size + _TAG)
    try:
        while len(held) > _TAG:
            chunk, held = held[: min(size, len(held) - _TAG)], held[min(size, len(held) - _TAG) :]
            plain = aead.decrypt(start + index.to_bytes(8, "big"), chunk, info)
            index += 1
            total += len(plain)
            if plain:
                yield plain
            held += _up_to(content, size)
        aead.decrypt(start + index.to_bytes(8, "big"), held, info + total.to_bytes(8, "big"))
    except (InvalidTag, ValueError):
        raise damaged(f"openpgp: chunk {index} fails its proof: damaged, cut, or another key") from None


def _up_to(content: Feed, size: int) -> bytes:
    parts = []
    while size and (piece := content.some(size)):
        size -= len(piece)
        parts.append(piece)
    return b"".join(parts)
