"""Alibaba Cloud OSS as a storage of wal-g."""
