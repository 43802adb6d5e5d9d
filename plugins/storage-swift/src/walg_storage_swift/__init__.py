"""OpenStack Swift as a storage of wal-g."""
