"""What this distribution declares."""

from walg_core.crypto.datakeys import LIFETIME
from walg_core.declarations import CrypterType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import Setting

SETTINGS = (
    Setting("YC_CSE_KMS_KEY_ID", "key of Yandex Cloud KMS that wraps the data keys"),
    Setting("YC_SERVICE_ACCOUNT_KEY_FILE", "authorized key of a service account (JSON)", kind="path"),
    Setting("YC_API_ENDPOINT", "where the addresses of services are asked for", default="api.cloud.yandex.net:443"),
    Setting("YC_CA_FILE", "certificates to trust instead of the usual ones (PEM)", kind="path"),
    LIFETIME,
)


@hookimpl
def walg_register_crypters() -> list[CrypterType]:
    return [
        CrypterType(
            "yckms",
            factory="walg_crypto_yckms.crypter:create",
            selected_by=("YC_CSE_KMS_KEY_ID",),
            settings=SETTINGS,
            order=40,
        )
    ]
