"""Restoring: beside the old data, checked, then swapped."""
