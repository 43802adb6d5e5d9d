"""Core's own settings: those that belong to no storage, codec, cipher or engine (spec/config.md 7.1)."""

from walg_core.settings.declare import Setting

_TRANSFER = (
    Setting("WALG_DOWNLOAD_CONCURRENCY", "parallel downloads", kind="count", default="10"),
    Setting("WALG_UPLOAD_CONCURRENCY", "parallel uploads, and parts of one object", kind="count", default="16"),
    Setting("WALG_UPLOAD_DISK_CONCURRENCY", "tar streams filled in parallel", kind="count", default="1"),
    Setting("WALG_UPLOAD_QUEUE", "finished tars that may wait for upload", kind="count", default="2"),
    Setting("WALG_DOWNLOAD_FILE_RETRIES", "fruitless rounds of extraction before giving up", kind="int", default="15"),
    Setting("WALG_COMPRESSION_METHOD", "how new objects are compressed", default="lz4"),
    Setting("WALG_SENTINEL_USER_DATA", "stored in the sentinel as user data", kind="json"),
    Setting("WALG_TAR_SIZE_THRESHOLD", "a tar is closed at this size", kind="int", unit="bytes", default="1073741823"),
    Setting("WALG_TAR_DISABLE_FSYNC", "do not sync restored files (dangerous)", kind="bool", default="false"),
    Setting("GOMAXPROCS", "threads that compress, when above 0 and without --turbo", kind="int"),
)

_STREAMS = (
    Setting("WALG_STREAM_CREATE_COMMAND", "shell command whose output is the backup"),
    Setting("WALG_STREAM_RESTORE_COMMAND", "shell command that gets the backup on its input"),
    Setting("WALG_STREAM_SPLITTER_PARTITIONS", "parallel streams that a backup is split into", kind="int", default="0"),
    Setting("WALG_STREAM_SPLITTER_BLOCK_SIZE", "size of the pieces dealt to them", kind="size", default="1048576"),
    Setting(
        "WALG_STREAM_SPLITTER_MAX_FILE_SIZE",
        "a split stream's file is closed at this size; 0: never",
        kind="int",
        unit="bytes",
        default="0",
    ),
)

_OBSERVE = (
    Setting("WALG_LOG_LEVEL", "how much is logged", default="NORMAL", choices=("NORMAL", "DEVEL", "ERROR")),
    Setting("WALG_LOG_DESTINATION", "`stderr` or a file to append to", default="stderr"),
    Setting("WALG_LOG_FORMAT", "form of the log's lines", default="text", choices=("text", "json")),
    Setting("WALG_STATSD_ADDRESS", "StatsD server as host:port (UDP)"),
    Setting("WALG_STATSD_EXTRA_TAGS", "tags added to every metric", kind="map"),
    Setting(
        "WALG_METRICS_TEXTFILE",
        "file (or directory, then one file a command) for Prometheus' textfile collector",
        kind="path",
    ),
    Setting("HTTP_LISTEN", "address of a web server that lives as long as the command, as host:port"),
    Setting("HTTP_EXPOSE_PPROF", "serve /debug/pprof/ there", kind="bool", default="false"),
    Setting("HTTP_EXPOSE_EXPVAR", "serve /debug/vars there", kind="bool", default="false"),
    Setting("PROFILE_SAMPLING_RATIO", "chance that a command is profiled, 0 to 1", kind="float"),
    Setting("PROFILE_MODE", "what is profiled: cpu or mem", default="cpu"),
    Setting("PROFILE_PATH", "directory for profiles (default: the temporary directory)", kind="path"),
)

_FRAME = (
    Setting("WALG_CONFIG_PATH", "configuration file (also --config)", kind="path"),
    Setting(
        "WALG_STRICT_CONFIG", "an unknown setting is an error (also --strict-config)", kind="bool", default="false"
    ),
    Setting("WALG_DISABLED_PLUGINS", "plugins or distributions that must not be loaded: names, comma-separated"),
    Setting("WALG_SERIALIZER_TYPE", "deprecated and without effect"),
    Setting("GODEBUG", "accepted and without effect"),
)

SETTINGS = _TRANSFER + _STREAMS + _OBSERVE + _FRAME
