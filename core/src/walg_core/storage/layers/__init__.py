"""Storages that wrap a storage: retry, limits, failover, dry run, tracing, prefix."""
