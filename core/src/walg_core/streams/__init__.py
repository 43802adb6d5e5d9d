"""Backups of engines that dump through a command."""
