"""What this distribution declares."""

from walg_core.crypto.datakeys import LIFETIME
from walg_core.declarations import CrypterType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import Setting

SETTINGS = (
    Setting("WALG_CSE_KMS_ID", "key of AWS KMS that wraps the data keys: an id, an alias or an ARN"),
    Setting("WALG_CSE_KMS_REGION", "its region (else AWS_REGION and what AWS programs know)"),
    Setting("WALG_CSE_KMS_ENDPOINT", "another address of the service, as a URL"),
    LIFETIME,
)


@hookimpl
def walg_register_crypters() -> list[CrypterType]:
    return [
        CrypterType(
            "awskms",
            factory="walg_crypto_awskms.crypter:create",
            selected_by=("WALG_CSE_KMS_ID",),
            settings=SETTINGS,
            order=30,
        )
    ]
