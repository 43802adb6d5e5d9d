"""Encryption under keys of AWS KMS."""
