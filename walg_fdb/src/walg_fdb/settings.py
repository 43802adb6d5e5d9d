"""Settings of the FoundationDB engine: those of stream backups are core's, this one it shares with other engines."""

from walg_core.settings.declare import Setting

SETTINGS = (
    Setting("WALG_BACKUP_DOWNLOAD_MAX_RETRY", "accepted; WALG_STORAGE_RETRIES rules retries", kind="int", default="0"),
)
