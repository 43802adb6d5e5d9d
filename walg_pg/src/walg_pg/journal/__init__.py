"""The write-ahead log: push, fetch, prefetch, receive, show, verify, records, deltas."""
