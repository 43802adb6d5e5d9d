"""What this distribution declares."""

from walg_core.declarations import CrypterType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import Setting

OPENPGP = (
    Setting("WALG_PGP_KEY", r"armored keyring; every \n in it becomes a newline", secret=True),
    Setting("WALG_PGP_KEY_PATH", "file with an armored keyring; an inline one wins", kind="path"),
    Setting("WALG_PGP_KEY_PASSPHRASE", "unlocks the private key when reading", secret=True),
    Setting("GPG_KEY_ID", "deprecated switch of the original; WALG_GPG_KEY_ID is enough"),
    Setting("WALG_GPG_KEY_ID", "user id of a key in gpg's keyring", aliases=("WALE_GPG_KEY_ID",)),
)
ENVELOPE = (
    Setting("WALG_ENVELOPE_PGP_KEY", "base64 of a keyring encrypted by the key management service", secret=True),
    Setting("WALG_ENVELOPE_PGP_KEY_PATH", "file with that text; it wins over the inline one", kind="path"),
    Setting("WALG_ENVELOPE_PGP_YC_CSE_KMS_KEY_ID", "Yandex KMS key that decrypts the keyring"),
    Setting("WALG_ENVELOPE_PGP_YC_SERVICE_ACCOUNT_KEY_FILE", "its service account's key (JSON)", kind="path"),
    Setting("WALG_ENVELOPE_PGP_YC_ENDPOINT", "host:port of the service, for tokens too; empty: found out"),
    Setting(
        "WALG_ENVELOPE_CACHE_EXPIRATION",
        "how long a decrypted keyring is kept; 0: always",
        kind="duration",
        default="0",
    ),
    Setting("YC_CA_FILE", "certificates to trust instead of the usual ones (PEM)", kind="path"),
)


@hookimpl
def walg_register_crypters() -> list[CrypterType]:
    return [
        CrypterType(
            "openpgp",
            factory="walg_crypto_openpgp.crypter:create",
            selected_by=("WALG_PGP_KEY", "WALG_PGP_KEY_PATH", "GPG_KEY_ID", "WALG_GPG_KEY_ID"),
            settings=OPENPGP,
            order=10,
        ),
        CrypterType(
            "envelope-openpgp",
            factory="walg_crypto_openpgp.envelope:create",
            selected_by=("WALG_ENVELOPE_PGP_KEY", "WALG_ENVELOPE_PGP_KEY_PATH"),
            settings=ENVELOPE,
            order=20,
        ),
    ]
