"""etcd for wal-g."""
