"""Compression methods, one module each; `api` is the contract."""
