"""The cipher: 184 bytes of wrapped data key, then DARE (spec/compression-crypto.md 10)."""

from walg_core.crypto.datakeys import DataKeyCrypter, DataKeys
from walg_core.crypto.sniff import hint
from walg_core.errors import ConfigError, IntegrityError
from walg_core.pipeline.reader import Reader, read_exactly

from walg_crypto_awskms.service import AwsKms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from walg_core.settings.config import Config

BLOB = 184
"""What KMS makes of 32 bytes under a symmetric key; the format has no other length."""


class BareBlob:
    """The framing: no magic, no length."""

    def pack(self, wrapped: bytes) -> bytes:
        if len(wrapped) != BLOB:
            raise ConfigError(
                f"Can't encrypt symmetric key: KMS gave a wrapped key of {len(wrapped)} bytes; the format holds only "
                f"{BLOB}, so what is written could never be read",
                hint="use a symmetric encryption key (SYMMETRIC_DEFAULT) of AWS KMS",
            )
        return wrapped

    def unpack(self, source: Reader) -> bytes:
        wrapped = read_exactly(source, BLOB)
        if len(wrapped) < BLOB:
            what = "unexpected EOF" if wrapped else "EOF"
            raise IntegrityError(
                f"Can't read encryption key from archive file header: {what}",
                hint=hint(wrapped, "the object is empty or truncated"),
            )
        return wrapped


def create(config: "Config") -> DataKeyCrypter:
    """The configured cipher; the service is asked at the first use. Raises ConfigError without a region."""
    service = AwsKms(
        config.require("WALG_CSE_KMS_ID"),
        region=config.get("WALG_CSE_KMS_REGION") or "",
        endpoint=config.get("WALG_CSE_KMS_ENDPOINT") or "",
    )
    return DataKeyCrypter("AWK_KMS/Crypter", DataKeys(service, config.get("WALG_KMS_DATA_KEY_LIFETIME")), BareBlob())
