"""What `wal-g st` does, without its command line: tables, globs, transfers, copies, checks (spec/storages.md 6)."""
