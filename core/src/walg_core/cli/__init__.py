"""The typer application, tables and progress, and the cold path that needs none of them."""
