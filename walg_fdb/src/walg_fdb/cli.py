"""The FoundationDB application: all commands of a stream engine, nothing of its own (spec/fdb-etcd.md)."""

import typer
from walg_core.streams.cli import add_all
from walg_core.streams.engine import StreamEngine

app = typer.Typer(name="fdb", no_args_is_help=True, help="Archive and restore FoundationDB.")
add_all(app, StreamEngine())
