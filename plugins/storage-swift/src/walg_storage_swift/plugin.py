"""What the Swift storage declares (spec/storages.md 4.5)."""

from walg_core.declarations import StorageType
from walg_core.hookspecs import hookimpl
from walg_core.settings.declare import prefix_setting, storage_setting

SETTINGS = (
    prefix_setting("SWIFT", "archive on OpenStack Swift, as swift://container/path"),
    storage_setting("OS_AUTH_URL", "identity service, as https://keystone:5000/v3"),
    storage_setting("OS_USERNAME", "user"),
    storage_setting("OS_USER_ID", "user's id, instead of the name"),
    storage_setting("OS_PASSWORD", "password", secret=True),
    storage_setting("OS_USER_DOMAIN_NAME", "domain of the user (v3)"),
    storage_setting("OS_USER_DOMAIN_ID", "its id; `default` when neither is set"),
    storage_setting("OS_PROJECT_NAME", "project"),
    storage_setting("OS_TENANT_NAME", "project, when OS_PROJECT_NAME is not set"),
    storage_setting("OS_PROJECT_ID", "project's id, instead of the name"),
    storage_setting("OS_TENANT_ID", "project's id, when OS_PROJECT_ID is not set"),
    storage_setting("OS_PROJECT_DOMAIN_NAME", "domain of the project (default: the user's)"),
    storage_setting("OS_PROJECT_DOMAIN_ID", "its id"),
    storage_setting("OS_TRUST_ID", "trust that the token is for (v3)"),
    storage_setting("OS_APPLICATION_CREDENTIAL_ID", "application credential (v3)"),
    storage_setting("OS_APPLICATION_CREDENTIAL_NAME", "application credential's name, with the user"),
    storage_setting("OS_APPLICATION_CREDENTIAL_SECRET", "its secret", secret=True),
    storage_setting("OS_REGION_NAME", "region of the object store (default: the first in the catalogue)"),
    storage_setting("OS_ENDPOINT_TYPE", "endpoint of the catalogue: public, internal or admin", default="public"),
    storage_setting("OS_STORAGE_URL", "URL of the account, instead of the catalogue's"),
    storage_setting("OS_AUTH_TOKEN", "token to begin with", secret=True),
    storage_setting("OS_IDENTITY_API_VERSION", "version of the identity service, when ST_AUTH_VERSION is not set"),
    storage_setting("OS_CACERT", "trusted certificates", kind="path"),
    storage_setting("ST_AUTH", "identity service, when OS_AUTH_URL is not set"),
    storage_setting("ST_USER", "user, when OS_USERNAME is not set"),
    storage_setting("ST_KEY", "password, when OS_PASSWORD is not set", secret=True),
    storage_setting("ST_AUTH_VERSION", "1, 2 or 3 (default: what the URL says, else 3)"),
    storage_setting("GOSWIFT_RETRIES", "accepted; WALG_STORAGE_RETRIES rules", kind="int", default="3"),
    storage_setting("GOSWIFT_CONNECT_TIMEOUT", "longest time for connecting", kind="duration", default="10s"),
    storage_setting("GOSWIFT_TIMEOUT", "longest time without a byte", kind="duration", default="60s"),
    storage_setting("GOSWIFT_USER_AGENT", "User-Agent of the requests", default="wal-g"),
    storage_setting("GOSWIFT_INTERNAL", "use the internal endpoint", kind="bool"),
    storage_setting(
        "SWIFT_SEGMENT_SIZE",
        "size of the segments of larger objects; 0: one request an object, as far as the server takes it",
        kind="size",
        default="0",
    ),
)


@hookimpl
def walg_register_storages() -> list[StorageType]:
    return [
        StorageType(
            "swift",
            prefix="WALG_SWIFT_PREFIX",
            factory="walg_storage_swift.storage:create",
            schemes=("swift",),
            settings=SETTINGS,
            order=6,
        )
    ]
