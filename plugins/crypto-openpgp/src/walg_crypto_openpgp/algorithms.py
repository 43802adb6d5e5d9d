"""Numbers of OpenPGP's algorithms and what they stand for (RFC 9580 9)."""

import hashlib

from walg_core.errors import IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RSA, RSA_ENCRYPT, RSA_SIGN, ELGAMAL, DSA, ECDH, ECDSA, EDDSA = 1, 2, 3, 16, 17, 18, 19, 22
X25519, X448, ED25519, ED448 = 25, 26, 27, 28
ENCRYPTING = frozenset((RSA, RSA_ENCRYPT, ELGAMAL, ECDH, X25519, X448))
RAW_SIZES = {X25519: 32, X448: 56, ED25519: 32, ED448: 57}

TRIPLE_DES, CAST5, AES_128, AES_192, AES_256 = 2, 3, 7, 8, 9
# Number → (key bytes, block bytes).
CIPHERS = {TRIPLE_DES: (24, 8), CAST5: (16, 8), AES_128: (16, 16), AES_192: (24, 16), AES_256: (32, 16)}
EAX, OCB, GCM = 1, 2, 3
NONCES = {EAX: 16, OCB: 15, GCM: 12}
_HASHES = {
    1: "md5",
    2: "sha1",
    3: "ripemd160",
    8: "sha256",
    9: "sha384",
    10: "sha512",
    11: "sha224",
    12: "sha3_256",
    14: "sha3_512",
}
SOUND_HASHES = frozenset((2, 8, 9, 10, 11, 12, 14))

# Object identifiers of curves → name; the names of cryptography's classes, and the two of djb's.
CURVES = {
    bytes.fromhex("2a8648ce3d030107"): "SECP256R1",
    bytes.fromhex("2b81040022"): "SECP384R1",
    bytes.fromhex("2b81040023"): "SECP521R1",
    bytes.fromhex("2b8104000a"): "SECP256K1",
    bytes.fromhex("2b2403030208010107"): "BrainpoolP256R1",
    bytes.fromhex("2b240303020801010b"): "BrainpoolP384R1",
    bytes.fromhex("2b240303020801010d"): "BrainpoolP512R1",
    bytes.fromhex("2b060104019755010501"): "Curve25519",
    bytes.fromhex("2b06010401da470f01"): "Ed25519",
}


def new_hash(number: int) -> "hashlib._Hash":
    """A hash of the standard library. Raises IntegrityError for an unknown number."""
    name = _HASHES.get(number)
    if name is None:
        raise IntegrityError(f"openpgp: unsupported feature: hash algorithm {number}")
    return hashlib.new(name, usedforsecurity=name not in ("md5", "sha1", "ripemd160"))


def hash_class(number: int) -> "Any":
    """The class of cryptography for signature schemes."""
    from cryptography.hazmat.primitives import hashes

    classes: dict[int, Any] = {
        2: hashes.SHA1,
        8: hashes.SHA256,
        9: hashes.SHA384,
        10: hashes.SHA512,
        11: hashes.SHA224,
        12: hashes.SHA3_256,
        14: hashes.SHA3_512,
    }
    return classes[number]()


def block_cipher(number: int, key: bytes) -> "Any":
    from cryptography.hazmat.primitives.ciphers import algorithms

    if number in (AES_128, AES_192, AES_256):
        return algorithms.AES(key)
    from cryptography.hazmat.decrepit.ciphers import algorithms as old

    return old.TripleDES(key) if number == TRIPLE_DES else old.CAST5(key)


def cfb(number: int, key: bytes, iv: bytes) -> "Any":
    """A cipher object (`.encryptor()`, `.decryptor()`) in full-block CFB."""
    from cryptography.hazmat.primitives.ciphers import Cipher

    try:
        from cryptography.hazmat.decrepit.ciphers.modes import CFB
    except ImportError:  # older releases of cryptography
        from cryptography.hazmat.primitives.ciphers.modes import CFB
    return Cipher(block_cipher(number, key), CFB(iv))


def curve_class(name: str) -> "Any":
    from cryptography.hazmat.primitives.asymmetric import ec

    return getattr(ec, name)()


class _Eax:
    """EAX mode, which cryptography lacks: CTR with OMAC over nonce, header and ciphertext."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _omac(self, number: int, data: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import algorithms
        from cryptography.hazmat.primitives.cmac import CMAC

        mac = CMAC(algorithms.AES(self._key))
        mac.update(bytes(15) + bytes((number,)) + data)
        return mac.finalize()

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        from hmac import compare_digest

        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        sealed, tag = data[:-16], data[-16:]
        start = self._omac(0, nonce)
        parts = zip(start, self._omac(1, associated), self._omac(2, sealed), strict=True)
        if not compare_digest(bytes(a ^ b ^ c for a, b, c in parts), tag):
            raise InvalidTag
        stream = Cipher(algorithms.AES(self._key), modes.CTR(start)).decryptor()
        return bytes(stream.update(sealed) + stream.finalize())


def aead(number: int, key: bytes) -> "Any":
    """An object with `decrypt(nonce, data, associated)`, which raises InvalidTag. AES only."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3

    return _Eax(key) if number == EAX else AESOCB3(key) if number == OCB else AESGCM(key)
