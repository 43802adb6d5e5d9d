"""Encryption with libsodium's secretstream."""
