"""Bringing a cluster back: fetch, tablespaces, recovery settings, restore test."""
