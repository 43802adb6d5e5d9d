"""Commands that make, show and remove backups."""

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands to the engine's application."""
