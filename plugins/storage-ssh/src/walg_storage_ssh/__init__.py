"""A directory behind SSH as a storage of wal-g."""
