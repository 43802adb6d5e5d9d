"""The message as written: PKESK packets, then SEIPD version 1 around one literal (spec/compression-crypto.md 6.2)."""

import hashlib
import os

from walg_core.pipeline.reader import Reader, read_exactly

from walg_crypto_openpgp import algorithms as alg
from walg_crypto_openpgp import sessionkeys
from walg_crypto_openpgp.packets import LITERAL, SEIPD, PartialWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from walg_crypto_openpgp.keys import Certificate, Key

BATCH = 1 << 20
# Binary, no name, no date. The original writes `u` here, for which gpg drops every CR of the data.
_LITERAL_HEAD = b"b\0\0\0\0\0"
_MDC_HEAD = b"\xd3\x14"


def session_cipher(ring: "list[Certificate]") -> int:
    """AES-128, unless every owner lists AES-256 and not every one AES-128: the original's choice."""
    preferred = [set(each.ciphers()) for each in ring]
    if all(alg.AES_128 in each for each in preferred):
        return alg.AES_128
    return alg.AES_256 if all(alg.AES_256 in each for each in preferred) else alg.AES_128


def encrypted(source: Reader, recipients: "list[Key]", cipher: int) -> "Iterator[bytes]":
    """The message that holds all that `source` gives, for `recipients`."""
    session_key = os.urandom(alg.CIPHERS[cipher][0])
    head = b"".join(sessionkeys.seal(key, cipher, session_key) for key in recipients)
    encryptor = alg.cfb(cipher, session_key, bytes(16)).encryptor()
    del session_key
    outer, inner = PartialWriter(SEIPD), PartialWriter(LITERAL)
    prefix = os.urandom(16)
    prefix += prefix[-2:]
    proof = hashlib.sha1(prefix, usedforsecurity=False)
    out = head + outer.feed(b"\x01" + encryptor.update(prefix)) + outer.feed(b"")
    start = _LITERAL_HEAD
    while True:
        batch = read_exactly(source, BATCH)
        plain = inner.feed(start + batch if start else batch)
        start = b""
        last = len(batch) < BATCH
        if last:
            plain += inner.finish() + _MDC_HEAD
        proof.update(plain)
        if last:
            plain += proof.digest()
        out += outer.feed(encryptor.update(plain))
        if last:
            yield out + outer.finish()
            return
        if out:
            yield out
        out = b""
