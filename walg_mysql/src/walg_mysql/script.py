"""`wal-g-mysql`: this engine's commands at the top level, whatever else is installed."""

from walg_core.cli.main import run


def main() -> None:
    """Console script; exits with the command's status."""
    raise SystemExit(run(engine="mysql"))
