"""Making backups: RDB, AOF, tiered storage, slots of a cluster."""
