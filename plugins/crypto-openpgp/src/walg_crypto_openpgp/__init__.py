"""OpenPGP encryption."""
