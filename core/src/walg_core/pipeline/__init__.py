"""Byte streams between database and storage. Everything is pulled: a stage is a `Reader` over another `Reader`."""
