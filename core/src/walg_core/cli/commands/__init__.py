"""Core's own commands, one module a command; `register` puts them into the application."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add core's commands, except those whose names an engine uses itself."""
    from walg_core.cli import st
    from walg_core.cli.commands import completion, configuration, doctor, flags, help_command, plugins_command

    taken = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
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
    if "st" not in taken:
        app.add_typer(st.app, name="st")
