"""Google Cloud Storage as a storage of wal-g."""
