"""Envelope PGP: the private keyring itself is stored, encrypted by the key service, before each message."""

import binascii

from walg_core.compression.framing import Stage
from walg_core.crypto.envelope import OpenedKeys, load_service, pack_header, unpack_header
from walg_core.errors import ConfigError
from walg_core.pipeline.reader import Reader

from walg_crypto_openpgp.armor import dearmor_keyring
from walg_crypto_openpgp.crypter import OpenPgp, read_file
from walg_crypto_openpgp.keys import read_ring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from walg_core.settings.config import Config

_WHERE = "the keyring of the envelope"


class EnvelopePgp:
    """The crypter object. `sealed` is the encrypted keyring for writing; reading takes that of each object."""

    name = "Enveloped/yckms/Opengpg/Crypter"

    def __init__(self, sealed: bytes, keys: OpenedKeys) -> None:
        self._sealed = sealed
        self._keys = keys
        self._opened: dict[bytes, OpenPgp] = {}

    def _crypter(self, sealed: bytes) -> OpenPgp:
        ring = self._keys.get(sealed)
        if ring not in self._opened:
            self._opened = {ring: OpenPgp(lambda: ring, lambda: ring, _WHERE)}
        return self._opened[ring]

    def encrypt(self, source: Reader) -> Reader:
        return Stage(self._encrypt(source), source)

    def _encrypt(self, source: Reader) -> "Iterator[bytes]":
        crypter = self._crypter(self._sealed)
        ring = read_ring(dearmor_keyring(self._keys.get(self._sealed), _WHERE), _WHERE)
        names = ",".join(f"{int.from_bytes(each.primary.key_id, 'big'):X}" for each in ring)
        message = crypter.encrypt(source)
        yield pack_header(names, self._sealed)
        while piece := message.read(1 << 20):
            yield piece

    def decrypt(self, source: Reader) -> Reader:
        return Stage(self._decrypt(source), source)

    def _decrypt(self, source: Reader) -> "Iterator[bytes]":
        _, sealed = unpack_header(source)
        plain = self._crypter(sealed).decrypt(source)
        while piece := plain.read(1 << 20):
            yield piece


def create(config: "Config") -> EnvelopePgp:
    """The configured cipher; the service is asked at the first use. Raises ConfigError, MissingPlugin."""
    key_id = config.get("WALG_ENVELOPE_PGP_YC_CSE_KMS_KEY_ID")
    if not key_id:
        raise ConfigError(
            "yandex cloud KMS key for client-side encryption and decryption must be configured",
            hint="set WALG_ENVELOPE_PGP_YC_CSE_KMS_KEY_ID",
        )
    path = config.get("WALG_ENVELOPE_PGP_KEY_PATH")
    text = read_file(path) if path else str(config.require("WALG_ENVELOPE_PGP_KEY")).encode()
    try:
        sealed = binascii.a2b_base64(text.replace(b"\r", b"").replace(b"\n", b""), strict_mode=True)
    except binascii.Error:
        raise ConfigError(
            "the envelope's keyring is not base64", hint="it is what the key service made of the armored keyring"
        ) from None
    kind = load_service("walg_crypto_yckms.service:YandexKms", "walg-crypto-yckms")
    service = kind(
        key_id,
        account_file=config.get("WALG_ENVELOPE_PGP_YC_SERVICE_ACCOUNT_KEY_FILE") or "",
        endpoint=config.get("WALG_ENVELOPE_PGP_YC_ENDPOINT") or "",
        ca_file=config.get("YC_CA_FILE") or "",
    )
    return EnvelopePgp(sealed, OpenedKeys(service.unwrap, config.get("WALG_ENVELOPE_CACHE_EXPIRATION")))
