"""etcd's write-ahead log in the archive."""

FOLDER = "wal_005/"
