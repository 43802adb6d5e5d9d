"""Binary logs: events, GTIDs, archiving, fetching, replaying, serving."""
