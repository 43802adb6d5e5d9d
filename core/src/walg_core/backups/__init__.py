"""Backups of any engine: names, sentinels, listing, selection, deletion, marking, copying."""
