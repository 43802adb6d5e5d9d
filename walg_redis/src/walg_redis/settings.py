"""Settings of the Redis engine (spec/redis.md 8); the last group is not the original's."""

from walg_core.settings.declare import Setting

SETTINGS = (
    Setting("WALG_REDIS_HOST", "server's host", default="localhost"),
    Setting("WALG_REDIS_PORT", "server's port", kind="int", default="6379"),
    Setting("WALG_REDIS_DB", "database number to select", default="0"),
    Setting("WALG_REDIS_USERNAME", "ACL user to log in as", default="default"),
    Setting("WALG_REDIS_PASSWORD", "password; commands get it as REDISCLI_AUTH", secret=True),
    Setting("WALG_REDIS_DATA_PATH", "server's data directory", kind="path", default="/var/lib/redis"),
    Setting("WALG_REDIS_APPENDONLY_PATH", "AOF directory in the data directory", default="appendonlydir"),
    Setting("WALG_REDIS_APPENDONLY_MANIFEST", "name of the AOF manifest", default="appendonly.aof.manifest"),
    Setting(
        "WALG_REDIS_APPENDONLY_TEMP_MANIFEST",
        "directory in which AOF files are pinned, on the file system of the AOF directory",
        kind="path",
        default="/var/lib/redis/wal-g/",
    ),
    Setting(
        "WALG_REDIS_TS_PIN_FOLDER",
        "directory in which tiered-storage files are pinned, on their file system",
        kind="path",
        default="/var/lib/redis/ext/wal-g-pin/",
    ),
    Setting("WALG_REDIS_DATA_THRESHOLD", "percent of used disk at which a backup stops", kind="int", default="90"),
    Setting("WALG_REDIS_DATA_TIMEOUT", "seconds between looks at the disk", kind="int", default="1", unit="s"),
    Setting("WALG_REDIS_SERVER_PROCESS_NAME", "server's program", default="redis-server"),
    Setting("WALG_REDIS_FQDN_TO_ID_MAP", "cluster hosts and the ids of their shards (JSON)", kind="map", default="{}"),
    Setting("WALG_REDIS_CLUSTER_CONF_PATH", "nodes.conf", kind="path", default="/etc/redis/cluster.conf"),
    Setting("WALG_REDIS_RDB_FILE", "the server's dbfilename, for restores without a command", default="dump.rdb"),
    Setting(
        "WALG_REDIS_CONF_PATH",
        "the server's configuration file, which tells a restore whether it has appendonly",
        kind="path",
        default="/etc/redis/redis.conf",
    ),
    Setting("WALG_REDIS_SOCKET", "path of the server's Unix socket, instead of host and port", kind="path"),
    Setting("WALG_REDIS_TLS", "connect with TLS", kind="bool", default="false"),
    Setting("WALG_REDIS_TLS_CA", "trusted certificates of the server (default: the system's)", kind="path"),
    Setting("WALG_REDIS_TLS_CERT", "own certificate", kind="path"),
    Setting("WALG_REDIS_TLS_KEY", "key of the own certificate", kind="path"),
    Setting("WALG_REDIS_SENTINELS", "Sentinel addresses as host:port, comma-separated, that tell the server"),
    Setting("WALG_REDIS_SENTINEL_MASTER", "name of the master that they watch", default="mymaster"),
    Setting("WALG_REDIS_TIMEOUT", "a server silent for this long has failed", kind="duration", default="2m"),
)
