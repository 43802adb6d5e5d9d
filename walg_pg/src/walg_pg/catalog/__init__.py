"""What lies in the archive: list, mark, delete, copy, verify, foreign repositories."""
