"""Settings of the etcd engine (spec/fdb-etcd.md 6)."""

from walg_core.settings.declare import Setting

SETTINGS = (
    Setting("WALG_ETCD_DATA_DIR", "etcd's data directory (its --data-dir)", kind="path"),
    Setting("WALG_ETCD_WAL_DIR", "etcd's WAL directory (default: member/wal in the data directory)", kind="path"),
    Setting("WALG_BACKUP_DOWNLOAD_MAX_RETRY", "accepted; WALG_STORAGE_RETRIES rules retries", kind="int", default="0"),
)
