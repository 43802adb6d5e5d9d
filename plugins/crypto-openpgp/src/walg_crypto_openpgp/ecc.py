"""ECDH of RFC 6637 (NIST, Brainpool, secp256k1, Curve25519) and X25519/X448 of RFC 9580 for session keys."""

from walg_core.errors import IntegrityError

from walg_crypto_openpgp import algorithms as alg
from walg_crypto_openpgp.keys import Key
from walg_crypto_openpgp.packets import Fields, mpi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def ecdh_seal(key: Key, message: bytes) -> bytes:
    """Ephemeral point and wrapped message, padded to whole blocks of 8 bytes."""
    from cryptography.hazmat.primitives.asymmetric import ec, x25519
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if key.curve == "Curve25519":
        mine = x25519.X25519PrivateKey.generate()
        shared = mine.exchange(x25519.X25519PublicKey.from_public_bytes(key.point[1:]))
        point = b"\x40" + mine.public_key().public_bytes_raw()
    else:
        curve = alg.curve_class(key.curve)
        own = ec.generate_private_key(curve)
        shared = own.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, key.point))
        point = own.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    fill = 8 - len(message) % 8
    wrapped = aes_key_wrap(_derive(key, shared), message + bytes((fill,)) * fill)
    return mpi(point) + bytes((len(wrapped),)) + wrapped


def ecdh_open(key: Key, private: Fields, fields: Fields) -> bytes:
    """The message. Raises ValueError or IntegrityError when this key does not open it."""
    from cryptography.hazmat.primitives.asymmetric import ec, x25519

    point = fields.mpi_bytes()
    wrapped = fields.take(fields.number(1))
    scalar = private.mpi()
    if key.curve == "Curve25519":
        mine = x25519.X25519PrivateKey.from_private_bytes(scalar.to_bytes(32, "little"))
        shared = mine.exchange(x25519.X25519PublicKey.from_public_bytes(point[1:]))
    else:
        curve = alg.curve_class(key.curve)
        own = ec.derive_private_key(scalar, curve)
        shared = own.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, point))
    padded = _unwrap(_derive(key, shared), wrapped)
    fill = padded[-1]
    if not 0 < fill <= len(padded) or padded[-fill:] != bytes((fill,)) * fill:
        raise ValueError("no padding")
    return padded[:-fill]


def _derive(key: Key, shared: bytes) -> bytes:
    """The key-encryption key (RFC 6637 7 and 8)."""
    hash_number, cipher = key.kdf
    if cipher not in (alg.AES_128, alg.AES_192, alg.AES_256):
        raise IntegrityError(f"openpgp: unsupported feature: ECDH key wrapped with cipher {cipher}")
    parameters = bytes((len(key.oid),)) + key.oid + bytes((alg.ECDH, 3, 1, hash_number, cipher))
    context = alg.new_hash(hash_number)
    context.update(b"\0\0\0\1" + shared + parameters + b"Anonymous Sender    " + key.fingerprint)
    return context.digest()[: alg.CIPHERS[cipher][0]]


def _unwrap(key: bytes, wrapped: bytes) -> bytes:
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    try:
        return aes_key_unwrap(key, wrapped)
    except InvalidUnwrap:
        raise ValueError("another key's packet") from None


def x_seal(key: Key, cipher: int, session_key: bytes) -> bytes:
    """Version 3's form: the cipher's number stands in the clear before the wrapped key."""
    from cryptography.hazmat.primitives.asymmetric import x448, x25519
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap

    mine: Any
    if key.algorithm == alg.X25519:
        mine = x25519.X25519PrivateKey.generate()
        shared = mine.exchange(x25519.X25519PublicKey.from_public_bytes(key.point))
    else:
        mine = x448.X448PrivateKey.generate()
        shared = mine.exchange(x448.X448PublicKey.from_public_bytes(key.point))
    ephemeral = mine.public_key().public_bytes_raw()
    wrapped = aes_key_wrap(_x_derive(key, ephemeral, shared), session_key)
    return bytes(ephemeral + bytes((len(wrapped) + 1, cipher)) + wrapped)


def x_open(key: Key, private: Fields, fields: Fields, version: int) -> tuple[int, bytes]:
    from cryptography.hazmat.primitives.asymmetric import x448, x25519

    size = alg.RAW_SIZES[key.algorithm]
    ephemeral = fields.take(size)
    rest = Fields(fields.take(fields.number(1)))
    cipher = rest.number(1) if version == 3 else 0
    secret = private.take(size)
    if key.algorithm == alg.X25519:
        shared = x25519.X25519PrivateKey.from_private_bytes(secret).exchange(
            x25519.X25519PublicKey.from_public_bytes(ephemeral)
        )
    else:
        shared = x448.X448PrivateKey.from_private_bytes(secret).exchange(
            x448.X448PublicKey.from_public_bytes(ephemeral)
        )
    session_key = _unwrap(_x_derive(key, ephemeral, shared), rest.rest())
    if cipher and (cipher not in alg.CIPHERS or alg.CIPHERS[cipher][0] != len(session_key)):
        raise ValueError("cipher and key do not fit")
    return cipher, session_key


def _x_derive(key: Key, ephemeral: bytes, shared: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    short = key.algorithm == alg.X25519
    info = b"OpenPGP X25519" if short else b"OpenPGP X448"
    hash_ = hashes.SHA256() if short else hashes.SHA512()
    return HKDF(hash_, 16 if short else 32, None, info).derive(ephemeral + key.point + shared)
