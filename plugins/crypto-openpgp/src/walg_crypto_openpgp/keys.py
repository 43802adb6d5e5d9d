"""Keyrings: certificates, their sub-keys, and which key a backup is encrypted to (spec/compression-crypto.md 6.1)."""

import hashlib
import time

from walg_core.errors import ConfigError, IntegrityError

from walg_crypto_openpgp import algorithms as alg
from walg_crypto_openpgp import packets
from walg_crypto_openpgp.packets import Feed, Fields
from walg_crypto_openpgp.s2k import Secret
from walg_crypto_openpgp.signatures import Signature

_PRIMARY = (packets.PUBLIC_KEY, packets.SECRET_KEY)
_SUBKEY = (packets.PUBLIC_SUBKEY, packets.SECRET_SUBKEY)
_PRIVATE = (packets.SECRET_KEY, packets.SECRET_SUBKEY)


class Key:
    """A primary key or sub-key. `public` are its public fields as stored, `material` the algorithm's own part.

    `created` is in seconds since the epoch. `curve`, `point`, `kdf` (hash and cipher numbers) are those of ECC.
    """

    def __init__(self, tag: int, body: bytes) -> None:
        fields = Fields(body)
        self.version = fields.number(1)
        if self.version not in (4, 6):
            raise IntegrityError(f"openpgp: unsupported feature: key version {self.version}")
        self.created = fields.number(4)
        self.algorithm = fields.number(1)
        if self.version == 6:
            fields.number(4)
        self.numbers: tuple[int, ...] = ()
        self.curve, self.oid, self.point, self.kdf = "", b"", b"", (0, 0)
        self._read_material(fields)
        self.public = body[: fields.at]
        self.secret: Secret | None = None
        if tag in _PRIVATE:
            self.secret = Secret(tag, self.version, self.public, fields)
        self.fingerprint = self._fingerprint()
        self.key_id = self.fingerprint[:8] if self.version == 6 else self.fingerprint[-8:]
        self.bindings: list[Signature] = []
        self.revocations: list[Signature] = []

    def _read_material(self, fields: Fields) -> None:
        kind = self.algorithm
        counts = {alg.RSA: 2, alg.RSA_ENCRYPT: 2, alg.RSA_SIGN: 2, alg.ELGAMAL: 3, alg.DSA: 4}
        if kind in counts:
            self.numbers = tuple(fields.mpi() for _ in range(counts[kind]))
        elif kind in (alg.ECDH, alg.ECDSA, alg.EDDSA):
            self.oid = fields.take(fields.number(1))
            self.curve = alg.CURVES.get(self.oid, "")
            self.point = fields.mpi_bytes()
            if kind == alg.ECDH:
                kdf = Fields(fields.take(fields.number(1)))
                kdf.number(1)
                self.kdf = (kdf.number(1), kdf.number(1))
        elif kind in alg.RAW_SIZES:
            self.point = fields.take(alg.RAW_SIZES[kind])
        else:
            raise IntegrityError(f"openpgp: unsupported feature: public key algorithm {kind}")

    def framed(self) -> bytes:
        """The public key as fingerprints and signatures hash it."""
        if self.version == 6:
            return b"\x9b" + len(self.public).to_bytes(4, "big") + self.public
        return b"\x99" + len(self.public).to_bytes(2, "big") + self.public

    def _fingerprint(self) -> bytes:
        if self.version == 6:
            return hashlib.sha256(self.framed()).digest()
        return hashlib.sha1(self.framed(), usedforsecurity=False).digest()

    @property
    def can_encrypt(self) -> bool:
        known = self.algorithm != alg.ECDH or bool(self.curve)
        return self.algorithm in alg.ENCRYPTING and known

    def binding(self, now: float) -> Signature | None:
        """The newest signature that binds it and is valid now."""
        valid = [each for each in self.bindings if each.valid_at(now)]
        return max(valid, key=lambda each: each.created, default=None)

    def problem(self, now: float) -> str:
        """Why nothing may be encrypted to it now, in a few words; "" when it is good."""
        if self.revocations:
            return "is revoked"
        if self.created > now:
            return "was created in the future"
        binding = self.binding(now)
        if binding is None:
            return "has no valid self-signature"
        if binding.key_lifetime and self.created + binding.key_lifetime <= now:
            return "expired on " + time.strftime("%Y-%m-%d", time.gmtime(self.created + binding.key_lifetime))
        return ""


class Certificate:
    """An entity of the ring: primary key and sub-keys, their signatures verified; user ids without their names."""

    def __init__(self, primary: Key) -> None:
        self.primary = primary
        self.subkeys: list[Key] = []
        self.user_id = ""
        self._preferred: list[Signature] = []

    @property
    def keys(self) -> list[Key]:
        return [self.primary, *self.subkeys]

    def describe(self) -> str:
        """The key id and the first user id, for messages."""
        name = f" ({self.user_id})" if self.user_id else ""
        return self.primary.key_id.hex().upper() + name

    def ciphers(self) -> list[int]:
        """The session ciphers that its owner prefers."""
        direct = [each for each in self._preferred if each.ciphers]
        newest = max(direct, key=lambda each: (each.primary_user_id, each.created), default=None)
        return list(newest.ciphers) if newest else []

    def recipient(self, now: float) -> Key:
        """The key to encrypt to: newest good sub-key for encryption, else the primary. Raises ConfigError."""
        problem = self.primary.problem(now)
        reasons = [f"the key {problem}"] if problem else []
        if not problem:
            good: list[tuple[int, int, Key]] = []
            for key in self.subkeys:
                flag = _encrypts(key, now)
                if not flag:
                    continue
                why = key.problem(now)
                if why:
                    reasons.append(f"its sub-key {key.key_id.hex().upper()} {why}")
                else:
                    good.append((flag, key.created, key))
            if good:
                return max(good, key=lambda row: row[:2])[2]
            if _encrypts(self.primary, now) and not reasons:
                return self.primary
        why = "; ".join(reasons) or "it is only for signing"
        raise ConfigError(
            "opengpg encryption error: openpgp: invalid argument: cannot encrypt a message to key id "
            f"{self.primary.key_id.hex()} because it has no valid encryption keys: {why}",
            hint=f"renew or replace {self.describe()} in the ring, or take it out",
        )

    def add_direct(self, signature: Signature) -> None:
        self.primary.bindings.append(signature)
        self._preferred.append(signature)


def _encrypts(key: Key, now: float) -> int:
    """2 when it is meant for communication, 1 when only for storage, 0 when not for encryption."""
    if not key.can_encrypt:
        return 0
    binding = key.binding(now) or max(key.bindings, key=lambda each: each.created, default=None)
    flags = binding.flags if binding else None
    if flags is None:
        return 2
    return 2 if flags & 0x04 else 1 if flags & 0x08 else 0


def read_ring(data: bytes, where: str) -> list[Certificate]:
    """The certificates of a binary keyring, with the signatures that hold. Raises ConfigError when there are none."""
    try:
        ring = _Reader(data).read()
    except IntegrityError as error:
        raise ConfigError(f"{where}: {error}", hint="the keyring is damaged; export it again") from error
    if not ring:
        raise ConfigError(f"{where}: openpgp: invalid argument: no key in the ring", hint="export the key again")
    return ring


class _Reader:
    """Goes through a ring's packets; a signature counts when the primary key made it over what it claims to bind."""

    def __init__(self, data: bytes) -> None:
        self._feed = Feed([data])
        self._ring: list[Certificate] = []
        self._current: Certificate | None = None
        self._subkey: Key | None = None
        self._user_id: bytes | None = None

    def read(self) -> list[Certificate]:
        while header := packets.read_header(self._feed):
            tag, body = header
            self._packet(tag, packets.whole(body))
        return self._ring

    def _packet(self, tag: int, body: bytes) -> None:
        if tag in _PRIMARY:
            self._current = Certificate(Key(tag, body))
            self._ring.append(self._current)
            self._subkey = self._user_id = None
        elif self._current is None:
            return
        elif tag in _SUBKEY:
            self._user_id = None
            try:
                self._subkey = Key(tag, body)
            except IntegrityError:
                self._subkey = None
                self._user_id = b""
                return
            self._current.subkeys.append(self._subkey)
        elif tag in (packets.USER_ID, packets.ATTRIBUTE):
            self._subkey = None
            self._user_id = (b"\xb4" if tag == packets.USER_ID else b"\xd1") + len(body).to_bytes(4, "big") + body
            if tag == packets.USER_ID and not self._current.user_id:
                self._current.user_id = body.decode("utf-8", "replace")
        elif tag == packets.SIGNATURE:
            self._signature(self._current, body)

    def _signature(self, certificate: Certificate, body: bytes) -> None:
        try:
            signature = Signature(body)
        except IntegrityError:
            return  # of an unknown version or broken: it binds nothing
        primary = certificate.primary
        kind, data = signature.kind, primary.framed()
        if self._subkey is not None and kind in (0x18, 0x28):
            target = self._subkey.bindings if kind == 0x18 else self._subkey.revocations
            data += self._subkey.framed()
        elif self._subkey is None and kind == 0x20:
            target = primary.revocations
        elif self._subkey is None and kind == 0x1F:
            target = primary.bindings
        elif self._user_id and 0x10 <= kind <= 0x13:
            target = primary.bindings
            data += self._user_id
        else:
            return
        if not signature.verify(primary.algorithm, primary, data):
            return
        if target is primary.bindings:
            certificate.add_direct(signature)
        else:
            target.append(signature)
