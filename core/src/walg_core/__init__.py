"""wal-g: archive and restore databases to and from object storage."""
