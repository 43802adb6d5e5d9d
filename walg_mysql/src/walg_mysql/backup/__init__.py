"""Taking and fetching backups."""
