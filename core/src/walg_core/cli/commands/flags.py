"""`wal-g flags`: every global flag, to stderr as the original does."""

from __future__ import annotations

from typing import Annotated

import typer

from walg_core.cli.session import Session


def flags(
    ctx: typer.Context,
    _words: Annotated[list[str] | None, typer.Argument(metavar="WORD", help="ignored, as by the original")] = None,
) -> None:
    """Show every global flag: each setting has one.

    They go to stderr, as the original prints them.

    \b
    Example:
      wal-g flags 2>&1 | grep upload
    """
    session: Session = ctx.obj
    rows = [
        ("--config string", "configuration file"),
        ("--debug", "log everything, with tracebacks (like WALG_LOG_LEVEL=DEVEL)"),
        ("--strict-config", "unknown settings in the configuration file are errors"),
        ("--turbo", "without rate limits"),
    ]
    for setting in session.config.declared.values():
        default = f" (default {setting.default})" if setting.default else ""
        unit = f" [{setting.unit}]" if setting.unit else ""
        rows.append((f"{setting.flag} string", f"{setting.help}{unit}{default}"))
    width = max(len(left) for left, _ in rows)
    for left, right in sorted(rows):
        typer.echo(f"      {left:<{width}}   {right}", err=True)
