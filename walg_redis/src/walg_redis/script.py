"""`wal-g-redis`: this engine's commands at the top level, whatever else is installed."""

from walg_core.cli.main import main as run_engine


def main() -> None:
    """Console script; exits with the command's status."""
    run_engine(engine="redis")
