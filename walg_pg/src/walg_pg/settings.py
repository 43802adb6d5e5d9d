"""The settings of the PostgreSQL engine (spec/config.md 7.1 rows "PG", 7.4)."""

from walg_core.settings.declare import Setting

SETTINGS = (
    Setting("PGHOST", "server's host, or the directory of its socket"),
    Setting("PGPORT", "server's port"),
    Setting("PGUSER", "user to connect as"),
    Setting("PGPASSWORD", "password", secret=True),
    Setting("PGPASSFILE", "password file", kind="path"),
    Setting("PGDATABASE", "database to connect to"),
    Setting("PGSSLMODE", "how far TLS is required"),
    Setting("PGSSLKEY", "client's private key", kind="path"),
    Setting("PGSSLCERT", "client's certificate", kind="path"),
    Setting("PGSSLROOTCERT", "trusted certificates", kind="path"),
    Setting("PGAPPNAME", "application name shown in pg_stat_activity", default="wal-g"),
    Setting("PGDATA", "the cluster's data directory", kind="path"),
    Setting("WALG_SLOTNAME", "replication slot of wal-receive", default="walg"),
    Setting("WALG_PG_WAL_SIZE", "WAL segment size", kind="int", unit="MiB", default="16"),
    Setting("WALG_PG_WAL_PAGE_SIZE", "WAL page size", kind="int", unit="bytes", default="8192"),
    Setting("WALG_PG_BLOCK_SIZE", "data page size", kind="int", unit="bytes", default="8192"),
    Setting("WALG_PREFETCH_DIR", "where prefetched segments are kept instead of beside the destination", kind="path"),
    Setting("PG_READY_RENAME", "rename .ready to .done after a background upload", kind="bool", default="false"),
    Setting("PGBACKREST_STANZA", "stanza of the pgBackRest repository", default="main"),
    Setting(
        "WALG_ALIVE_CHECK_INTERVAL", "how often the server is asked during a backup", kind="duration", default="1m"
    ),
    Setting("WALG_STOP_BACKUP_TIMEOUT", "statement timeout of the stop call; unset: none", kind="duration"),
    Setting("WALG_DAEMON_WAL_UPLOAD_TIMEOUT", "time for one upload in the daemon", kind="duration", default="60s"),
    Setting("WALG_DISABLE_PARTIAL_RESTORE", "do not collect database names", kind="bool", default="false"),
    Setting("TOTAL_BG_UPLOADED_LIMIT", "segments that one wal-push may upload", kind="int", default="32"),
    Setting(
        "WALG_WAL_PUSH_AHEAD",
        "in a burst, let a process that outlives wal-push upload the next segments",
        kind="bool",
        default="true",
    ),
    Setting(
        "WALG_WAL_PUSH_MEMORY",
        "what all WAL uploads to an object storage together may hold in memory",
        kind="size",
        unit="bytes",
        default="24mb",
    ),
    Setting("WALG_PREVENT_WAL_OVERWRITE", "never replace an archived segment", kind="bool", default="false"),
    Setting(
        "WALG_UPLOAD_WAL_METADATA",
        "metadata object per segment or per group of 16",
        default="NOMETADATA",
        choices=("NOMETADATA", "INDIVIDUAL", "BULK"),
    ),
    Setting(
        "WALG_CHECK_WAL_HEADER", "refuse a segment whose first page contradicts its name", kind="bool", default="true"
    ),
    Setting(
        "WALG_WAL_FETCH_FAILURE_EXIT_CODE",
        "exit status of wal-fetch when the archive cannot be read (above 125 PostgreSQL stops; the original's is 1)",
        kind="int",
        default="200",
    ),
    Setting("WALG_DELTA_MAX_STEPS", "deltas since the full backup; 0 makes full backups", kind="int", default="0"),
    Setting("WALG_DELTA_ORIGIN", "base of a delta", default="LATEST", choices=("LATEST", "LATEST_FULL")),
    Setting("WALG_DELTA_FROM_NAME", "name of the backup to build deltas on"),
    Setting("WALG_DELTA_FROM_USER_DATA", "user data of the backup to build deltas on"),
    Setting("WALG_FETCH_TARGET_USER_DATA", "user data of the backup to fetch"),
    Setting("WALG_USE_WAL_DELTA", "record changed blocks while archiving WAL", kind="bool", default="false"),
    Setting(
        "WALG_USE_WAL_SUMMARIES",
        "take changed blocks from the server's WAL summaries (PostgreSQL 17 and later)",
        kind="bool",
        default="false",
    ),
    Setting(
        "WALG_VERIFY_EXIT_CODE",
        "exit status of backup-push when verification finds corrupt pages",
        kind="int",
        default="0",
    ),
    Setting(
        "WALG_FORCE_WAL_DELTA", "fail instead of scanning when WAL deltas are missing", kind="bool", default="false"
    ),
    Setting(
        "WALG_USE_REVERSE_UNPACK",
        "accepted: the order in which a chain is restored does not change the result",
        kind="bool",
        default="false",
    ),
    Setting("WALG_SKIP_REDUNDANT_TARS", "do not download tars without needed files", kind="bool", default="false"),
    Setting("WALG_VERIFY_PAGE_CHECKSUMS", "check page checksums during backup", kind="bool", default="false"),
    Setting("WALG_STORE_ALL_CORRUPT_BLOCKS", "record every corrupt block, not 10 a file", kind="bool", default="false"),
    Setting("WALG_USE_RATING_COMPOSER", "pack files by how often they change", kind="bool", default="false"),
    Setting("WALG_USE_COPY_COMPOSER", "reuse unchanged tars of the last backup", kind="bool", default="false"),
    Setting("WALG_USE_DATABASE_COMPOSER", "pack each database into its own tars", kind="bool", default="false"),
    Setting("WALG_WITHOUT_FILES_METADATA", "write no file list", kind="bool", default="false"),
    Setting("WALG_INTEGRITY_MAX_DELAYED_WALS", "newest segments that may still be missing", kind="int", default="0"),
    Setting("WALG_DIRECT_IO", "read data files past the page cache", kind="bool", default="false"),
    Setting("WALG_DIRECT_IO_BLOCK_COUNT", "size of direct reads", kind="int", unit="4 KiB blocks", default="32"),
)
