"""`wal-g config show|check|schema`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from walg_core.cli.session import Session
from walg_core.observe.redact import HIDDEN
from walg_core.settings.declare import Setting

app = typer.Typer(name="config", help="Show and check the configuration.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="say where each value comes from")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    everything: Annotated[bool, typer.Option("--all", help="also settings without a value")] = False,
) -> None:
    """Show the effective settings; secrets are masked.

    \b
    Examples:
      wal-g config show --origin
      wal-g config show --json
    """
    session: Session = ctx.obj
    if session.problem:
        raise session.problem
    rows = []
    for setting in sorted(session.config.declared.values(), key=lambda each: each.name):
        value = _shown(session, setting)
        if value is not None or everything:
            rows.append((setting.name, value, _origin(session, setting.name)))
    if as_json:
        document = {name: {"value": value, "origin": source} if origin else value for name, value, source in rows}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for name, value, source in rows:
        typer.echo(f"{name}={'' if value is None else value}" + (f"  # {source}" if origin else ""))


def _shown(session: Session, setting: Setting) -> Any:
    """The value as text, masked when secret; None without one. Never reads a secret's file, never runs its command."""
    located = session.config._locate(setting.name)
    if located is None:
        return setting.default
    if setting.secret:
        return HIDDEN
    raw = located[0]
    return raw if isinstance(raw, str) else json.dumps(raw)


def _origin(session: Session, name: str) -> str:
    from walg_core.settings.check import with_line

    return with_line(session.config, session.config.origin(name))


@app.command()
def check(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Check every setting.

    All mistakes are shown at once, each with where it comes from. Exits with 1 when there is one.

    \b
    Examples:
      wal-g config check
      wal-g --config /etc/wal-g.yaml config check
    """
    from walg_core.settings.check import Mistake, mistakes

    session: Session = ctx.obj
    if session.problem:
        found = [Mistake("", session.file_name, str(session.problem))]
    else:
        found = mistakes(session.config, session.catalog, session.engine, environment_names=True)
    if as_json:
        rows = [{"setting": each.name, "origin": each.origin, "message": each.message} for each in found]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for each in found:
            typer.echo(str(each))
        if not found:
            source = f"file {session.file_name} and the environment" if session.file_name else "the environment"
            typer.echo(f"No mistakes found in {source}.")
    if found:
        raise typer.Exit(1)


@app.command()
def schema(ctx: typer.Context) -> None:
    """Print the JSON schema of the configuration file.

    Editors and validators read it.

    \b
    Example:
      wal-g config schema > wal-g.schema.json
    """
    from walg_core.settings.model import json_schema

    session: Session = ctx.obj
    typer.echo(json.dumps(json_schema(session.config.declared.values()), indent=2, ensure_ascii=False))
