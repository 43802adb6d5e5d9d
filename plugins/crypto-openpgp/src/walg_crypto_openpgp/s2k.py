"""Secret key packets: string-to-key, and the unlocking of protected secrets (RFC 9580 3.7, 5.5.3)."""

import hashlib
from hmac import compare_digest

from walg_core.errors import ConfigError, IntegrityError

from walg_crypto_openpgp.algorithms import CIPHERS, NONCES, aead, cfb, new_hash
from walg_crypto_openpgp.packets import Fields

_AEAD, _SHA1, _SUM = 253, 254, 255
_SIMPLE, _SALTED, _ITERATED, _ARGON2, _GNU = 0, 1, 3, 4, 101
_ARGON_LIMIT = 21
"""Memory exponent (KiB) that a keyring may ask for: 2 GiB."""


class MissingSecret(ConfigError):
    """The ring has a place for this secret but not the secret itself (exported without it, or on a card)."""


class Locked(ConfigError):
    """The secret is protected, and there is no passphrase or the wrong one."""


class Secret:
    """The secret part of a key packet as stored. `tag` is the packet's, `public` its public part's bytes."""

    def __init__(self, tag: int, version: int, public: bytes, fields: Fields) -> None:
        self._tag, self._version, self._public = tag, version, public
        self.usage = fields.number(1)
        self._cipher = self._mode = 0
        self._iv = b""
        self._s2k: Fields | None = None
        self.dummy = False
        if self.usage:
            self._read_protection(fields)
        self._stored = fields.rest()

    def _read_protection(self, fields: Fields) -> None:
        v6 = self._version == 6
        if v6:
            fields.number(1)
        if self.usage < _AEAD:
            raise IntegrityError("openpgp: unsupported feature: secret key protected in the way of PGP 2")
        self._cipher = fields.number(1)
        if self.usage == _AEAD:
            self._mode = fields.number(1)
        size = fields.number(1) if v6 and self.usage in (_AEAD, _SHA1) else None
        before = fields.at
        self._s2k = Fields(_specifier(fields))
        if size is not None and fields.at - before != size:
            raise IntegrityError("openpgp: invalid data: length of a string-to-key specifier")
        self.dummy = self._s2k.data[0] == _GNU
        if self.dummy:
            return
        if self._cipher not in CIPHERS or (self.usage == _AEAD and self._mode not in NONCES):
            raise IntegrityError(f"openpgp: unsupported feature: secret key protected with cipher {self._cipher}")
        self._iv = fields.take(NONCES[self._mode] if self.usage == _AEAD else CIPHERS[self._cipher][1])

    @property
    def protected(self) -> bool:
        return bool(self.usage) and not self.dummy

    def unlock(self, passphrase: bytes | None) -> bytes:
        """The secret's fields, their checksum verified and taken off. Raises Locked or MissingSecret."""
        if self.dummy:
            raise MissingSecret("openpgp: s2k GNU dummy key: dummy key found")
        if not self.usage:
            return self._unprotected()
        if not passphrase:
            raise Locked(
                "the private key is protected by a passphrase, and none is configured",
                hint="set WALG_PGP_KEY_PASSPHRASE",
            )
        key = derive(self._s2k or Fields(b""), passphrase, CIPHERS[self._cipher][0])
        return self._open_aead(key) if self.usage == _AEAD else self._open_cfb(key)

    def _unprotected(self) -> bytes:
        if self._version == 6:
            return self._stored
        body, check = self._stored[:-2], self._stored[-2:]
        if sum(body) & 0xFFFF != int.from_bytes(check, "big"):
            raise IntegrityError("openpgp: invalid data: private key checksum failure")
        return body

    def _open_cfb(self, key: bytes) -> bytes:
        decryptor = cfb(self._cipher, key, self._iv).decryptor()
        plain: bytes = decryptor.update(self._stored) + decryptor.finalize()
        if self.usage == _SHA1:
            body, check = plain[:-20], plain[-20:]
            good = compare_digest(hashlib.sha1(body, usedforsecurity=False).digest(), check)
        else:
            body, check = plain[:-2], plain[-2:]
            good = (sum(body) & 0xFFFF).to_bytes(2, "big") == check
        if not good:
            raise _wrong_passphrase()
        return body

    def _open_aead(self, key: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        kind = bytes((0xC0 | self._tag,))
        info = kind + bytes((self._version, self._cipher, self._mode))
        key = HKDF(SHA256(), len(key), None, info).derive(key)
        try:
            plain: bytes = aead(self._mode, key).decrypt(self._iv, self._stored, kind + self._public)
        except InvalidTag:
            raise _wrong_passphrase() from None
        return plain


def _wrong_passphrase() -> Locked:
    return Locked(
        "openpgp: invalid data: private key checksum failure", hint="is WALG_PGP_KEY_PASSPHRASE the right passphrase?"
    )


def _specifier(fields: Fields) -> bytes:
    kind = fields.number(1)
    size = {_SIMPLE: 1, _SALTED: 9, _ITERATED: 10, _ARGON2: 19, _GNU: 5}.get(kind)
    if size is None:
        raise IntegrityError(f"openpgp: unsupported feature: string-to-key type {kind}")
    out = bytes((kind,)) + fields.take(size)
    if kind == _GNU and out[5] == 2:
        out += fields.take(fields.number(1))
    return out


def derive(specifier: Fields, passphrase: bytes, size: int) -> bytes:
    """A key of `size` bytes from a passphrase."""
    specifier.at = 0
    kind = specifier.number(1)
    if kind == _ARGON2:
        return _argon2(specifier, passphrase, size)
    number = specifier.number(1)
    salt = specifier.take(8) if kind in (_SALTED, _ITERATED) else b""
    data = salt + passphrase
    total = len(data)
    if kind == _ITERATED:
        coded = specifier.number(1)
        total = max(total, (16 + (coded & 15)) << ((coded >> 4) + 6))
    out = b""
    while len(out) < size:
        context = new_hash(number)
        context.update(bytes(len(out) // context.digest_size))
        block = data * max(1, min((1 << 16) // len(data), total // len(data)))
        left = total
        while left >= len(block):
            context.update(block)
            left -= len(block)
        context.update(block[:left])
        out += context.digest()
    return out[:size]


def _argon2(specifier: Fields, passphrase: bytes, size: int) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    salt = specifier.take(16)
    passes, lanes, exponent = specifier.number(1), specifier.number(1), specifier.number(1)
    if exponent > _ARGON_LIMIT:
        raise IntegrityError(f"openpgp: the private key asks for 2^{exponent} KiB of memory to be unlocked")
    kdf = Argon2id(salt=salt, length=size, iterations=passes, lanes=lanes, memory_cost=1 << exponent)
    return bytes(kdf.derive(passphrase))
