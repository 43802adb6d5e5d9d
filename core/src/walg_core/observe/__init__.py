"""Log, progress, metrics, profiling, service notification."""
