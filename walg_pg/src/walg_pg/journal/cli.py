"""Commands of `walg_pg.journal`."""

import typer


def register(app: typer.Typer) -> None:
    """Add this package's commands to the engine's application."""
