"""Commands of `walg_pg.backup`."""

import typer


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
