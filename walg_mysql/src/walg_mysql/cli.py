"""`wal-g mysql …`: the commands of the MySQL engine (spec/mysql.md 1)."""

import typer

from walg_mysql.backup import cli as backup_commands
from walg_mysql.journal import cli as journal_commands

app = typer.Typer(no_args_is_help=True, help="MySQL and MariaDB backups and binary logs.")
backup_commands.register(app)
journal_commands.register(app)
