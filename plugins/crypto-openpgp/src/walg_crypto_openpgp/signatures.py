"""Self-signatures: what they say about a key, and whether the primary key really made them (RFC 9580 5.2)."""

from walg_core.errors import IntegrityError

from walg_crypto_openpgp import algorithms as alg
from walg_crypto_openpgp.packets import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class PublicKey(Protocol):
        """The public parts that verification needs (see `keys.Key`)."""

        numbers: tuple[int, ...]
        curve: str
        point: bytes


_CREATED, _LIFETIME, _KEY_LIFETIME, _CIPHERS, _PRIMARY_ID, _FLAGS = 2, 3, 9, 11, 25, 27


class Signature:
    """One signature packet of version 4 or 6, with the sub-packets of its hashed area. Times are in seconds."""

    def __init__(self, body: bytes) -> None:
        fields = Fields(body)
        self._version = fields.number(1)
        if self._version not in (4, 6):
            raise IntegrityError(f"openpgp: unsupported feature: signature version {self._version}")
        wide = 4 if self._version == 6 else 2
        self.kind = fields.number(1)
        self._algorithm = fields.number(1)
        self._hash = fields.number(1)
        hashed = fields.take(fields.number(wide))
        self._signed = body[: fields.at]
        fields.take(fields.number(wide))
        self._check = fields.take(2)
        self._salt = fields.take(fields.number(1)) if self._version == 6 else b""
        self._fields = fields
        self.created = self.lifetime = self.key_lifetime = 0
        self.flags: int | None = None
        self.ciphers: tuple[int, ...] = ()
        self.primary_user_id = False
        self._read(Fields(hashed))

    def _read(self, area: Fields) -> None:
        while area.left:
            first = area.number(1)
            if first == 255:
                size = area.number(4)
            else:
                size = first if first < 192 else (first - 192 << 8) + area.number(1) + 192
            data = area.take(size)
            kind, value = (data[0] & 0x7F, data[1:]) if data else (0, b"")
            if kind == _CREATED:
                self.created = int.from_bytes(value, "big")
            elif kind == _LIFETIME:
                self.lifetime = int.from_bytes(value, "big")
            elif kind == _KEY_LIFETIME:
                self.key_lifetime = int.from_bytes(value, "big")
            elif kind == _CIPHERS:
                self.ciphers = tuple(value)
            elif kind == _PRIMARY_ID:
                self.primary_user_id = any(value)
            elif kind == _FLAGS:
                self.flags = value[0] if value else 0

    def valid_at(self, now: float) -> bool:
        return self.created <= now and (not self.lifetime or self.created + self.lifetime > now)

    def verify(self, algorithm: int, key: "PublicKey", data: bytes) -> bool:
        """Whether `key` made this signature over `data`. A weak hash (MD5, RIPEMD-160) counts as not made."""
        if algorithm != self._algorithm or self._hash not in alg.SOUND_HASHES:
            return False
        trailer = self._signed + bytes((self._version, 0xFF)) + len(self._signed).to_bytes(4, "big")
        context = alg.new_hash(self._hash)
        context.update(self._salt + data + trailer)
        digest = context.digest()
        if digest[:2] != self._check:
            return False
        return self._verify(key, digest)

    def _verify(self, key: "PublicKey", digest: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

        try:
            _check(self._algorithm, key, digest, self._hash, self._fields)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, IntegrityError):
            return False
        return True


def _check(algorithm: int, key: "PublicKey", digest: bytes, hash_number: int, fields: Fields) -> None:
    """Raises InvalidSignature (or ValueError for parameters that are none)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

    if algorithm in (alg.RSA, alg.RSA_SIGN):
        modulus, exponent = key.numbers
        size = (modulus.bit_length() + 7) // 8
        signature = fields.mpi_bytes().rjust(size, b"\0")
        public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        public.verify(signature, digest, padding.PKCS1v15(), Prehashed(alg.hash_class(hash_number)))
    elif algorithm == alg.DSA:
        p, q, g, y = key.numbers
        signature = encode_dss_signature(fields.mpi(), fields.mpi())
        signer = dsa.DSAPublicNumbers(y, dsa.DSAParameterNumbers(p, q, g)).public_key()
        signer.verify(signature, digest, Prehashed(alg.hash_class(hash_number)))
    elif algorithm == alg.ECDSA:
        signature = encode_dss_signature(fields.mpi(), fields.mpi())
        point = ec.EllipticCurvePublicKey.from_encoded_point(alg.curve_class(key.curve), key.point)
        point.verify(signature, digest, ec.ECDSA(Prehashed(alg.hash_class(hash_number))))
    elif algorithm == alg.EDDSA and key.curve == "Ed25519":
        signature = fields.mpi_bytes().rjust(32, b"\0") + fields.mpi_bytes().rjust(32, b"\0")
        ed25519.Ed25519PublicKey.from_public_bytes(key.point[1:]).verify(signature, digest)
    elif algorithm == alg.ED25519:
        ed25519.Ed25519PublicKey.from_public_bytes(key.point).verify(fields.take(64), digest)
    elif algorithm == alg.ED448:
        ed448.Ed448PublicKey.from_public_bytes(key.point).verify(fields.take(114), digest)
    else:
        raise InvalidSignature
