"""PostgreSQL for wal-g."""
