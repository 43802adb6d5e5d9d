"""`python -m walg_core` is `wal-g`."""

from walg_core.cli.main import main

main()
