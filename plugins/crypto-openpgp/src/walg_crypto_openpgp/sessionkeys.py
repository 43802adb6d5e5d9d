"""Session keys under public keys: PKESK packets, written as version 3 and read as 3 and 6 (RFC 9580 5.1)."""

import os

from walg_core.errors import IntegrityError

from walg_crypto_openpgp import algorithms as alg
from walg_crypto_openpgp import ecc
from walg_crypto_openpgp.keys import Key
from walg_crypto_openpgp.packets import PKESK, Fields, mpi, packet


class Pkesk:
    """One recipient's packet. `recipient` is the key id (version 3), the fingerprint (6), or empty: anyone."""

    def __init__(self, body: bytes) -> None:
        fields = Fields(body)
        self.version = fields.number(1)
        if self.version == 3:
            self.recipient = fields.take(8)
            if not any(self.recipient):
                self.recipient = b""
        elif self.version == 6:
            size = fields.number(1)
            self.recipient = fields.take(size)[1:] if size else b""
        else:
            raise IntegrityError(f"openpgp: unsupported feature: session key packet version {self.version}")
        self.algorithm = fields.number(1)
        self.material = fields.rest()

    def is_for(self, key: Key) -> bool:
        if key.algorithm != self.algorithm:
            same = {key.algorithm, self.algorithm} <= {alg.RSA, alg.RSA_ENCRYPT}
            if not same:
                return False
        return not self.recipient or self.recipient in (key.key_id, key.fingerprint)


def seal(key: Key, cipher: int, session_key: bytes) -> bytes:
    """The PKESK packet, version 3, that gives `session_key` to `key`."""
    checksum = (sum(session_key) & 0xFFFF).to_bytes(2, "big")
    message = bytes((cipher,)) + session_key + checksum
    if key.algorithm in (alg.RSA, alg.RSA_ENCRYPT):
        body = _rsa_seal(key, message)
    elif key.algorithm == alg.ELGAMAL:
        body = _elgamal_seal(key, message)
    elif key.algorithm == alg.ECDH:
        body = ecc.ecdh_seal(key, message)
    else:
        body = ecc.x_seal(key, cipher, session_key)
    return packet(PKESK, b"\x03" + key.key_id + bytes((key.algorithm,)) + body)


def open_(pkesk: Pkesk, key: Key, secret: bytes) -> "tuple[int, bytes] | None":
    """(cipher, session key) when `key` with its unlocked `secret` opens the packet; cipher 0 in version 6.

    None when it does not: another key's packet, or a damaged one.
    """
    fields, private = Fields(pkesk.material), Fields(secret)
    try:
        if key.algorithm in (alg.X25519, alg.X448):
            return ecc.x_open(key, private, fields, pkesk.version)
        if key.algorithm in (alg.RSA, alg.RSA_ENCRYPT):
            message = _rsa_open(key, private, fields)
        elif key.algorithm == alg.ELGAMAL:
            message = _elgamal_open(key, private, fields)
        else:
            message = ecc.ecdh_open(key, private, fields)
    except (ValueError, IntegrityError):
        return None
    return _unpack(message, pkesk.version)


def _unpack(message: bytes, version: int) -> "tuple[int, bytes] | None":
    cipher = 0
    if version == 3 and message:
        cipher, message = message[0], message[1:]
    key, checksum = message[:-2], message[-2:]
    if not key or (sum(key) & 0xFFFF).to_bytes(2, "big") != checksum:
        return None
    if cipher and (cipher not in alg.CIPHERS or alg.CIPHERS[cipher][0] != len(key)):
        return None
    return cipher, key


def _rsa_seal(key: Key, message: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    modulus, exponent = key.numbers
    return mpi(rsa.RSAPublicNumbers(exponent, modulus).public_key().encrypt(message, padding.PKCS1v15()))


def _rsa_open(key: Key, private: Fields, fields: Fields) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    modulus, exponent = key.numbers
    d, p, q = private.mpi(), private.mpi(), private.mpi()
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(exponent, modulus),
    )  # fmt: skip
    sealed = fields.mpi_bytes().rjust((modulus.bit_length() + 7) // 8, b"\0")
    # The ring's own checksum or self-signature vouched for these numbers; the check takes half a second.
    return numbers.private_key(unsafe_skip_rsa_key_validation=True).decrypt(sealed, padding.PKCS1v15())


def _elgamal_seal(key: Key, message: bytes) -> bytes:
    p, g, y = key.numbers
    size = (p.bit_length() + 7) // 8
    filler = bytes(byte or 1 for byte in os.urandom(size - len(message) - 3))
    padded = int.from_bytes(b"\0\2" + filler + b"\0" + message, "big")
    k = int.from_bytes(os.urandom(size + 8), "big") % (p - 2) + 1
    return mpi(pow(g, k, p)) + mpi(padded * pow(y, k, p) % p)


def _elgamal_open(key: Key, private: Fields, fields: Fields) -> bytes:
    p = key.numbers[0]
    shared, sealed = fields.mpi(), fields.mpi()
    x = private.mpi()
    padded = (sealed * pow(shared, p - 1 - x, p) % p).to_bytes((p.bit_length() + 7) // 8, "big")
    head, _, message = padded[2:].partition(b"\0")
    if padded[:2] != b"\0\2" or len(head) < 8:
        raise ValueError("no PKCS #1 padding")
    return message
