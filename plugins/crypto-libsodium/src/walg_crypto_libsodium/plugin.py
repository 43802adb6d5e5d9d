"""What this distribution declares."""

from walg_core.declarations import CrypterType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import Setting

SETTINGS = (
    Setting("WALG_LIBSODIUM_KEY", "the shared key itself, in the form that the transform reads", secret=True),
    Setting("WALG_LIBSODIUM_KEY_PATH", "a file with the shared key; an inline key wins", kind="path"),
    Setting("WALG_LIBSODIUM_KEY_TRANSFORM", "how the key is written: none (its bytes), hex or base64", default="none"),
)


@hookimpl
def walg_register_crypters() -> list[CrypterType]:
    return [
        CrypterType(
            "libsodium",
            factory="walg_crypto_libsodium.crypter:create",
            selected_by=("WALG_LIBSODIUM_KEY", "WALG_LIBSODIUM_KEY_PATH"),
            settings=SETTINGS,
            order=50,
        )
    ]
