"""What the OSS storage declares (spec/storages.md 4.6)."""

from walg_core.declarations import StorageType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import prefix_setting, storage_setting

SETTINGS = (
    prefix_setting("OSS", "archive on Alibaba Cloud OSS, as oss://bucket/path"),
    storage_setting("OSS_ACCESS_KEY_ID", "access key", secret=True),
    storage_setting("OSS_ACCESS_KEY_SECRET", "its secret", secret=True),
    storage_setting("OSS_SESSION_TOKEN", "token of temporary keys", secret=True),
    storage_setting("OSS_REGION", "region, as cn-hangzhou"),
    storage_setting("OSS_ENDPOINT", "URL or host (default: the region's public endpoint)"),
    storage_setting("OSS_ROLE_ARN", "role to assume with the keys"),
    storage_setting("OSS_ROLE_SESSION_NAME", "session name of that role", default="wal-g"),
    storage_setting("OSS_SKIP_VALIDATION", "accepted: the bucket is tried by the first request", kind="bool"),
    storage_setting("OSS_MAX_RETRIES", "tries of one request", kind="count", default="5"),
    storage_setting("OSS_CONNECT_TIMEOUT", "longest time for connecting", kind="int", unit="s", default="5"),
    storage_setting("OSS_UPLOAD_PART_SIZE", "size of a part", kind="int", unit="bytes", default="6291456"),
    storage_setting("OSS_COPY_PART_SIZE", "size of a part of a copy", kind="int", unit="bytes", default="67108864"),
)


@hookimpl
def walg_register_storages() -> list[StorageType]:
    return [
        StorageType(
            "oss",
            prefix="WALG_OSS_PREFIX",
            factory="walg_storage_oss.storage:create",
            schemes=("oss",),
            settings=SETTINGS,
            order=1,
        )
    ]
