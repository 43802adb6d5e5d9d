"""`binlog-server`: the archived binary logs served to a replica by the replication protocol (spec/mysql.md 8)."""
