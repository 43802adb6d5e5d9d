"""`wal-g-pg`: this engine's commands at the top level, whatever else is installed."""

from walg_core.cli import main as command_line


def main() -> None:
    """Console script; exits with the command's status."""
    command_line.main(engine="pg")
