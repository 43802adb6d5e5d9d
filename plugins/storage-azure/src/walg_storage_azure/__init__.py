"""Azure Blob Storage as a storage of wal-g."""
