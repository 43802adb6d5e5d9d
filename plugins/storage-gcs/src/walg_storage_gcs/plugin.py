"""What the Google Cloud Storage storage declares (spec/storages.md 4.3)."""

from walg_core.declarations import StorageType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import prefix_setting, storage_setting

SETTINGS = (
    prefix_setting("GS", "archive on Google Cloud Storage, as gs://bucket/path"),
    storage_setting("GOOGLE_APPLICATION_CREDENTIALS", "file of credentials", kind="path"),
    storage_setting("GCS_CONTEXT_TIMEOUT", "time for one upload", kind="int", unit="seconds", default="3600"),
    storage_setting(
        "GCS_NORMALIZE_PREFIX", "accepted: slashes at the path's ends are always left out", kind="bool", default="true"
    ),
    storage_setting("GCS_ENCRYPTION_KEY", "customer-supplied key, base64 of 32 bytes", secret=True),
    storage_setting(
        "GCS_MAX_CHUNK_SIZE", "size of a part; above 16 MiB, 16 MiB", kind="int", unit="bytes", default="52428800"
    ),
    storage_setting("GCS_MAX_RETRIES", "tries of one part after the first", kind="int", default="16"),
    storage_setting("GCS_ENDPOINT", "URL of another server than Google's"),
    storage_setting("STORAGE_EMULATOR_HOST", "host and port of an emulator, which is used without credentials"),
)


@hookimpl
def walg_register_storages() -> list[StorageType]:
    return [
        StorageType(
            "gcs",
            prefix="WALG_GS_PREFIX",
            factory="walg_storage_gcs.storage:create",
            schemes=("gs", "gcs"),
            settings=SETTINGS,
            order=4,
        )
    ]
