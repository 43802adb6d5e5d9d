"""What the S3 storage declares (spec/storages.md 3.1)."""

from walg_core.declarations import StorageType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import prefix_setting, storage_setting

SETTINGS = (
    prefix_setting("S3", "archive on S3, as s3://bucket/path"),
    storage_setting("AWS_ACCESS_KEY_ID", "access key", secret=True),
    storage_setting("AWS_ACCESS_KEY", "access key, when AWS_ACCESS_KEY_ID is not set", secret=True),
    storage_setting("AWS_SECRET_ACCESS_KEY", "secret key", secret=True),
    storage_setting("AWS_SECRET_KEY", "secret key, when AWS_SECRET_ACCESS_KEY is not set", secret=True),
    storage_setting("AWS_SESSION_TOKEN", "token of temporary keys", secret=True),
    storage_setting("AWS_REGION", "region; us-east-1 for other endpoints than Amazon's"),
    storage_setting("AWS_DEFAULT_REGION", "region, when AWS_REGION is not set"),
    storage_setting("AWS_ENDPOINT", "URL of another server than Amazon's; https without a scheme"),
    storage_setting("AWS_S3_FORCE_PATH_STYLE", "bucket in the path, not in the host's name", kind="bool"),
    storage_setting("AWS_DUAL_STACK", "use dual-stack endpoints", kind="bool"),
    storage_setting("AWS_ROLE_ARN", "role to assume with the keys at hand"),
    storage_setting("AWS_ROLE_SESSION_NAME", "session name of that role"),
    storage_setting("AWS_STS_ENDPOINT", "URL of the service that gives out roles (default: the region's)"),
    storage_setting("AWS_PROFILE", "profile in the shared credentials file"),
    storage_setting("AWS_SHARED_CREDENTIALS_FILE", "shared credentials file", kind="path"),
    storage_setting("AWS_CONFIG_FILE", "accepted: only the credentials file is read", kind="path"),
    storage_setting("AWS_CA_BUNDLE", "trusted certificates", kind="path"),
    storage_setting("AWS_DEFAULT_OUTPUT", "accepted for the original's sake; without effect"),
    storage_setting("S3_CA_CERT_FILE", "trusted certificates", kind="path"),
    storage_setting("S3_STORAGE_CLASS", "storage class of new objects", default="STANDARD"),
    storage_setting("S3_SSE", "server-side encryption: AES256 or aws:kms"),
    storage_setting("S3_SSE_C", "customer key of server-side encryption", secret=True),
    storage_setting("S3_SSE_KMS_ID", "KMS key of server-side encryption"),
    storage_setting(
        "UPLOAD_CONCURRENCY", "parts of one object sent at once (default: WALG_UPLOAD_CONCURRENCY)", kind="count"
    ),
    storage_setting("S3_MAX_PART_SIZE", "size of a part", kind="int", unit="bytes", default="20971520"),
    storage_setting("S3_MAX_RETRIES", "tries of one request", kind="int", default="15"),
    storage_setting("S3_MIN_THROTTLING_RETRY_DELAY", "accepted; WALG_STORAGE_RETRY_DEADLINE rules", kind="int"),
    storage_setting("S3_MAX_THROTTLING_RETRY_DELAY", "accepted; WALG_STORAGE_RETRY_DEADLINE rules", kind="int"),
    storage_setting("S3_USE_LIST_OBJECTS_V1", "accepted: the second version of the call is used", kind="bool"),
    storage_setting(
        "S3_SKIP_VALIDATION", "accepted: the bucket is tried by the first request", kind="bool", default="true"
    ),
    storage_setting(
        "S3_ENABLE_VERSIONING", "enabled, disabled, or empty: deletions ask the bucket whether it keeps versions"
    ),
    storage_setting(
        "S3_DELETE_BATCH_SIZE", "accepted: 1000 objects are deleted by one request", kind="int", default="1000"
    ),
    storage_setting("S3_RANGE_BATCH_ENABLED", "accepted: broken downloads are always resumed", kind="bool"),
    storage_setting("S3_RANGE_MAX_RETRIES", "accepted; WALG_STORAGE_RETRIES rules", kind="int"),
    storage_setting(
        "S3_RETENTION_PERIOD", "seconds for which every new object is locked; -1: no lock", kind="int", default="-1"
    ),
    storage_setting("S3_RETENTION_MODE", "GOVERNANCE or COMPLIANCE", default="GOVERNANCE"),
    storage_setting("S3_ENDPOINT_SOURCE", "refused: set AWS_ENDPOINT"),
    storage_setting("S3_ENDPOINT_PORT", "accepted; S3_ENDPOINT_SOURCE is refused", kind="int", default="443"),
    storage_setting("S3_ENDPOINT_PROTOCOL", "accepted; S3_ENDPOINT_SOURCE is refused"),
    storage_setting("S3_REQUEST_ADDITIONAL_HEADERS", "headers added to every request, as YAML or JSON", secret=True),
    storage_setting("S3_DISABLE_100_CONTINUE", "accepted: Expect is never sent", kind="bool"),
    storage_setting("S3_USE_YC_SESSION_TOKEN", "keys and token of Yandex Cloud's instance metadata", kind="bool"),
    storage_setting("S3_LOG_LEVEL", "accepted; WALG_LOG_LEVEL=DEVEL shows every request"),
)


@hookimpl
def walg_register_storages() -> list[StorageType]:
    return [
        StorageType(
            "s3",
            prefix="WALG_S3_PREFIX",
            factory="walg_storage_s3.storage:create",
            schemes=("s3",),
            settings=SETTINGS,
            order=2,
        )
    ]
