"""Redis and Valkey for wal-g."""
