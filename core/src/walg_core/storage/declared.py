"""What core itself declares about storages: the built-in kinds and the settings of the layers. Import-light."""

from walg_core.declarations import StorageType
from walg_core.settings.declare import Setting, prefix_setting

STORAGES = (
    StorageType(
        "file",
        prefix="WALG_FILE_PREFIX",
        factory="walg_core.storage.local:create",
        schemes=("file",),
        settings=(prefix_setting("FILE", "directory of the archive on a local or mounted file system"),),
        order=3,
    ),
    StorageType(
        "fsspec",
        prefix="WALG_FSSPEC_PREFIX",
        factory="walg_core.storage.generic:create",
        settings=(
            Setting("WALG_FSSPEC_PREFIX", "archive on any fsspec file system, as PROTOCOL://path"),
            Setting("WALG_FSSPEC_OPTIONS", "options of that file system", kind="map", secret=True),
        ),
        order=90,
    ),
)

SETTINGS = (
    Setting("WALG_STORAGE_PREFIX", "folder below the storage's root that everything lives in"),
    Setting("WALG_NETWORK_RATE_LIMIT", "limit of all storage traffic together", kind="int", unit="bytes/s"),
    Setting("WALG_DISK_RATE_LIMIT", "limit of reading data files", kind="int", unit="bytes/s"),
    Setting(
        "WALG_STORAGE_RETRIES", "how often a request that failed in passing is tried again", kind="int", default="8"
    ),
    Setting(
        "WALG_STORAGE_RETRY_DEADLINE",
        "for how long one operation is tried again after its first failure",
        kind="duration",
        default="5m",
    ),
    Setting(
        "WALG_STORAGE_STALL_TIMEOUT",
        "a read without a single byte for this long has failed (a put: 5 times as long); 0 waits for ever",
        kind="duration",
        default="2m",
    ),
    Setting("WALG_FAILOVER_STORAGES", "further storages: name → its settings", kind="map", secret=True),
    Setting(
        "WALG_FAILOVER_STORAGES_CHECK", "check which storages are alive (default: when there are any)", kind="bool"
    ),
    Setting("WALG_FAILOVER_STORAGES_CHECK_TIMEOUT", "time for that check", kind="duration", default="30s"),
    Setting("WALG_FAILOVER_STORAGES_CHECK_SIZE", "size of the file that it writes", kind="size", default="1mb"),
    Setting("WALG_FAILOVER_STORAGES_CACHE_LIFETIME", "how long its result is believed", kind="duration", default="15m"),
    *(
        Setting(f"WALG_FAILOVER_STORAGES_CACHE_EMA_{name}", meaning, kind="float", default=default)
        for name, meaning, default in (
            ("ALIVE_LIMIT", "aliveness from which a dead storage counts as alive", "0.99"),
            ("DEAD_LIMIT", "aliveness below which a storage counts as dead", "0.88"),
            ("ALPHA_ALIVE_MAX", "largest weight of one result while alive", "0.05"),
            ("ALPHA_ALIVE_MIN", "smallest weight of one result while alive", "0.01"),
            ("ALPHA_DEAD_MAX", "largest weight of one result while dead", "0.5"),
            ("ALPHA_DEAD_MIN", "smallest weight of one result while dead", "0.1"),
        )
    ),
    Setting("WALG_TARGET_STORAGE", "name of the only storage to use (default: the primary)"),
    Setting("WALG_MIRROR_STORAGES", "storages that every object is written to at once: names, comma-separated"),
    Setting(
        "WALG_MIRROR_QUORUM", "how many of them must have stored an object (default: more than half)", kind="count"
    ),
)
