"""Core's own commands, one module a command; `register` puts them into the application."""

from __future__ import annotations

import typer
from typer.models import CommandInfo

# Their context object is the session: they must work when the configuration is what is broken.
_FRAME = frozenset(("completion", "config", "flags", "help", "plugins"))


def register(app: typer.Typer) -> frozenset[str]:
    """Add core's commands, except those whose names an engine uses itself.

    Returns the names of those that get the session instead of a context.
    """
    from walg_core.cli import crypto, st
    from walg_core.cli.commands import completion, configuration, doctor, flags, help_command, plugins_command

    taken = {_name(command) for command in app.registered_commands} | {group.name for group in app.registered_groups}
    for name, function in (
        ("completion", completion.completion),
        ("doctor", doctor.doctor),
        ("flags", flags.flags),
        ("help", help_command.help_),
        ("plugins", plugins_command.plugins),
    ):
        if name not in taken:
            app.command(name)(function)
    if "config" not in taken:
        app.add_typer(configuration.app, name="config")
    if "crypto" not in taken:
        crypto.register(app)
    if "st" not in taken:
        app.add_typer(st.app, name="st")
    return _FRAME - taken


def _name(command: CommandInfo) -> str:
    return command.name or getattr(command.callback, "__name__", "").lower().replace("_", "-")
