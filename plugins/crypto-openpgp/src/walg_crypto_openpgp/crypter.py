"""The cipher: keys from the settings, messages for all keys of the ring."""

import threading
import time

from walg_core.compression.framing import Stage
from walg_core.crypto.sniff import looks_plain
from walg_core.errors import ConfigError, IntegrityError
from walg_core.observe import log
from walg_core.pipeline.reader import CHUNK, IterReader, Reader, pieces, read_exactly

from walg_crypto_openpgp import gpg, reading, sessionkeys, writing
from walg_crypto_openpgp.armor import dearmor_keyring
from walg_crypto_openpgp.keys import Certificate, Key, read_ring
from walg_crypto_openpgp.s2k import Locked, MissingSecret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from walg_core.settings.config import Config

    from walg_crypto_openpgp.sessionkeys import Pkesk


class OpenPgp:
    """The crypter object; threads may share it. Keys are read at the first use, and unlocked at the first need.

    `public_ring`, `private_ring`: give the armored keyrings for writing and for reading; they raise ConfigError.
    `where` names their source in messages.
    """

    name = "Opengpg/Crypter"

    def __init__(
        self,
        public_ring: "Callable[[], bytes]",
        private_ring: "Callable[[], bytes]",
        where: str,
        passphrase: "Callable[[], bytes]" = bytes,
        *,
        unencrypted_passes: bool = False,
    ) -> None:
        self._public_ring = public_ring
        self._private_ring = private_ring
        self._where = where
        self._passphrase = passphrase
        self._unencrypted_passes = unencrypted_passes
        self._lock = threading.Lock()
        self._recipients: tuple[list[Key], int] | None = None
        self._private: list[Certificate] | None = None
        self._unlocked: dict[bytes, bytes] = {}

    def encrypt(self, source: Reader) -> Reader:
        recipients, cipher = self.recipients()
        return Stage(writing.encrypted(source, recipients, cipher), source)

    def recipients(self) -> tuple[list[Key], int]:
        """The keys that new objects are encrypted to, in the ring's order, and the session cipher."""
        with self._lock:
            if self._recipients is None:
                ring = read_ring(dearmor_keyring(self._public_ring(), self._where), self._where)
                now = time.time()
                self._recipients = [each.recipient(now) for each in ring], writing.session_cipher(ring)
            return self._recipients

    def decrypt(self, source: Reader) -> Reader:
        if self._unencrypted_passes:
            head = read_exactly(source, 16)
            source = IterReader(_joined(head, source), source.close)
            if looks_plain(head):
                log.warning("an object is not encrypted: the original ignores WALG_GPG_KEY_ID without GPG_KEY_ID")
                return source
        return Stage(reading.decrypted(pieces(source, CHUNK), self._session_keys), source)

    def _session_keys(self, recipients: "list[Pkesk]") -> list[tuple[int, bytes]]:
        """Candidates for the session key, those of packets that name their key first. Raises what hinders it."""
        with self._lock:
            keys = self._private_keys()
            hindrance: ConfigError | None = None
            found = []
            for pkesk in sorted(recipients, key=lambda each: not each.recipient):
                for key in keys:
                    if not pkesk.is_for(key):
                        continue
                    try:
                        secret = self._unlock(key)
                    except (Locked, MissingSecret) as error:
                        hindrance = hindrance or error
                        continue
                    opened = sessionkeys.open_(pkesk, key, secret)
                    if opened is not None:
                        found.append(opened)
        if not found:
            if hindrance is not None:
                raise hindrance
            raise IntegrityError(
                "openpgp: incorrect key: no key of the configured ring opens this message",
                hint="the object was written for another key, or its first bytes are damaged",
            )
        return found

    def _private_keys(self) -> list[Key]:
        if self._private is None:
            self._private = read_ring(dearmor_keyring(self._private_ring(), self._where), self._where)
        keys = [key for each in self._private for key in each.keys if key.secret and key.can_encrypt]
        if not keys:
            raise ConfigError(
                f"openpgp: incorrect key: {self._where} has no private key, so nothing can be decrypted",
                hint="the public key is enough to back up; set the private one to restore",
            )
        return keys

    def _unlock(self, key: Key) -> bytes:
        if key.fingerprint not in self._unlocked and key.secret is not None:
            self._unlocked[key.fingerprint] = key.secret.unlock(self._passphrase() if key.secret.protected else None)
        return self._unlocked[key.fingerprint]


def _joined(head: bytes, source: Reader) -> "Iterator[bytes]":
    yield head
    yield from pieces(source, CHUNK)


def create(config: "Config") -> OpenPgp:
    """The cipher as configured: an inline keyring before a file before gpg's. Raises ConfigError."""

    def passphrase() -> bytes:
        return str(config.get("WALG_PGP_KEY_PASSPHRASE") or "").rstrip("\r\n").encode()

    found = config.find("WALG_PGP_KEY")
    if found:
        inline = str(found[0]).replace("\\n", "\n").encode()
        return OpenPgp(lambda: inline, lambda: inline, "WALG_PGP_KEY", passphrase)
    path = config.get("WALG_PGP_KEY_PATH")
    if path:
        return OpenPgp(lambda: read_file(path), lambda: read_file(path), "WALG_PGP_KEY_PATH", passphrase)
    user_id = config.get("WALG_GPG_KEY_ID")
    if not user_id:
        raise ConfigError(
            "there is no any supported gpg crypter configuration: GPG_KEY_ID is set, but it names no key",
            hint="set WALG_GPG_KEY_ID to the key's id",
        )
    return OpenPgp(
        lambda: gpg.public_key(user_id),
        lambda: gpg.secret_key(user_id),
        f"gpg's key {user_id}",
        passphrase,
        unencrypted_passes=not config.is_set("GPG_KEY_ID"),
    )


def read_file(path: str) -> bytes:
    """A file with a keyring. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 24)
    except OSError as error:
        text = (error.strerror or "").lower()
        raise ConfigError(f"open {path}: {text}", hint="can the database's user read the key file?") from error
