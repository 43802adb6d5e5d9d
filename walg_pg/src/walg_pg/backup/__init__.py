"""Base backups of a PostgreSQL cluster: taking them."""
