"""FoundationDB for wal-g."""
