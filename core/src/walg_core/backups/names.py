"""Where backups lie and what they are called; imports nothing, so that cold commands may."""

FOLDER = "basebackups_005/"
SENTINEL_SUFFIX = "_backup_stop_sentinel.json"
LATEST = "LATEST"


def sentinel_key(name: str, folder: str = FOLDER) -> str:
    """The key of a backup's sentinel."""
    return f"{folder}{name}{SENTINEL_SUFFIX}"
