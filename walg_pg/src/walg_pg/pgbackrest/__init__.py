"""Reading the repositories of pgBackRest (spec/postgres-backup.md 15.4, postgres-wal.md 9.5)."""
