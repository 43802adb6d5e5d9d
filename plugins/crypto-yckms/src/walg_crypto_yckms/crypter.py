"""The cipher: a header with the wrapped data key, then DARE with AES-256-GCM (spec/compression-crypto.md 11)."""

from walg_core.crypto import dare
from walg_core.crypto.datakeys import DataKeyCrypter, DataKeys
from walg_core.crypto.sniff import hint
from walg_core.errors import ConfigError, IntegrityError
from walg_core.pipeline.reader import Reader, read_exactly

from walg_crypto_yckms.service import YandexKms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.settings.config import Config

MAGIC, VERSION = b"yckms", 1
MAX_KEY = 4096


class Header:
    """The framing: magic, version, length, wrapped key."""

    def pack(self, wrapped: bytes) -> bytes:
        if len(wrapped) > MAX_KEY:
            raise ConfigError(
                f"YC KMS: the service gave a wrapped key of {len(wrapped)} bytes; readers take at most {MAX_KEY}"
            )
        return MAGIC + bytes((VERSION,)) + len(wrapped).to_bytes(4, "little") + wrapped

    def unpack(self, source: Reader) -> bytes:
        head = read_exactly(source, 10)
        if len(head) < 10 or not head.startswith(MAGIC):
            raise IntegrityError(
                "YC KMS: invalid encrypted header format",
                hint=hint(head, "the object is empty or truncated, or was written with another cipher"),
            )
        if head[5] != VERSION:
            raise IntegrityError(f"YC KMS: scheme version is not supported: {head[5]}")
        size = int.from_bytes(head[6:], "little")
        wrapped = read_exactly(source, size) if 0 < size <= MAX_KEY else b""
        if not wrapped or len(wrapped) < size:
            raise IntegrityError("YC KMS: invalid size of the encrypted key", hint="the object is damaged or truncated")
        return wrapped


def create(config: "Config") -> DataKeyCrypter:
    """The configured cipher; the service is asked at the first use."""
    service = YandexKms(
        config.require("YC_CSE_KMS_KEY_ID"),
        account_file=config.get("YC_SERVICE_ACCOUNT_KEY_FILE") or "",
        discovery=config.get("YC_API_ENDPOINT"),
        ca_file=config.get("YC_CA_FILE") or "",
        lenient=True,
    )
    keys = DataKeys(service, config.get("WALG_KMS_DATA_KEY_LIFETIME"))
    return DataKeyCrypter("YcKMC/Crypter", keys, Header(), ciphers=(dare.AES_256_GCM,))
