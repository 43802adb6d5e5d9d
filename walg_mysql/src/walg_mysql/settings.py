"""The settings of the MySQL engine (spec/config.md 7.6, spec/mysql.md 2)."""

from walg_core.settings.declare import Setting

SETTINGS = (
    Setting("WALG_MYSQL_DATASOURCE_NAME", "user:password@tcp(host:port)/database of the server", secret=True),
    Setting("WALG_MYSQL_SSL_CA", "trusted certificates of the server", kind="path"),
    Setting("WALG_MYSQL_BACKUP_PREPARE_COMMAND", "command run after a backup was unpacked"),
    Setting("WALG_MYSQL_BINLOG_REPLAY_COMMAND", "command that replays WALG_MYSQL_CURRENT_BINLOG"),
    Setting("WALG_MYSQL_BINLOG_DST", "directory that binlogs are fetched into", kind="path"),
    Setting("WALG_MYSQL_DATA_DIR", "the server's data directory, for in-process extraction", kind="path"),
    Setting("WALG_MYSQL_INCREMENTAL_BACKUP_DST", "where temporary directories of a restore are made", default="/tmp"),  # noqa: S108 - the original's default
    Setting(
        "WALG_MYSQL_CHECK_GTIDS", "push only binlogs whose GTIDs are not archived yet", kind="bool", default="false"
    ),
    Setting("WALG_MYSQL_BINLOG_SERVER_HOST", "address on which binlog-server listens"),
    Setting("WALG_MYSQL_BINLOG_SERVER_PORT", "port on which binlog-server listens", kind="int"),
    Setting("WALG_MYSQL_BINLOG_SERVER_USER", "user that a replica logs in as"),
    Setting("WALG_MYSQL_BINLOG_SERVER_PASSWORD", "password of that user", secret=True),
    Setting("WALG_MYSQL_BINLOG_SERVER_ID", "server id that binlog-server shows", kind="int"),
    Setting("WALG_MYSQL_BINLOG_SERVER_REPLICA_SOURCE", "data source of the replica that is fed", secret=True),
    Setting("WALG_MYSQL_TAKE_BINLOGS_FROM_MASTER", "accepted and ignored, as in the original"),
    Setting("WALG_MYSQL_FLUSH_BINLOGS", "rotate the active binlog before binlog-push", kind="bool", default="false"),
    Setting(
        "WALG_MYSQL_OVERWRITE_BINLOGS",
        "replace archived binlogs of the same name that differ",
        kind="bool",
        default="false",
    ),
    Setting("WALG_MYSQL_START_COMMAND", "command by which `restore` starts the server on the restored data"),
    Setting(
        "WALG_MYSQL_BINLOGS_CACHE", "file in which binlog-push notes the last binlog; default: in the home directory"
    ),
    Setting("WALG_MYSQL_REPLAY_IN_ONE_SESSION", "feed all binlogs to one replay command", kind="bool", default="false"),
    Setting("WALG_DELTA_MAX_STEPS", "increments since the full backup; 0: full backups", kind="int", default="0"),
    Setting("WALG_DELTA_ORIGIN", "base of an increment", default="LATEST", choices=("LATEST", "LATEST_FULL")),
    Setting("WALG_DELTA_FROM_NAME", "name of the backup to build increments on"),
    Setting("WALG_DELTA_FROM_USER_DATA", "user data of the backup to build increments on"),
    Setting("WALG_FETCH_TARGET_USER_DATA", "user data of the backup to fetch"),
    Setting("WALG_BACKUP_DOWNLOAD_MAX_RETRY", "accepted; WALG_STORAGE_RETRIES rules retries", kind="int", default="1"),
)
