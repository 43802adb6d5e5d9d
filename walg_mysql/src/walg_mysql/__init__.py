"""MySQL and MariaDB for wal-g."""
