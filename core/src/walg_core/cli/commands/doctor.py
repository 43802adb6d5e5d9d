"""`wal-g doctor`: is everything in place for backups to work?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import typer

from walg_core import hooks
from walg_core.context import Context
from walg_core.errors import WalgError
from walg_core.health import Check
from walg_core.plugins import BLOCKED

_MARKS = {"ok": "OK", "warning": "WARNING", "failed": "FAILED"}


def doctor(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Check plugins, settings, storage and encryption.

    Every plugin is asked for its own checks, too.

    Exits with 1 when a check failed.

    \b
    Examples:
      wal-g doctor
      wal-g doctor --json
    """
    context: Context = ctx.obj
    checks = list(_checks(context))
    if as_json:
        rows = [{"name": c.name, "status": c.status, "message": c.message, "hint": c.hint} for c in checks]
        typer.echo(json.dumps(rows, indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{_MARKS[check.status]:<8} {check.name:<{width}}  {check.message}")
            if check.hint and check.status != "ok":
                typer.echo(f"{'':<8} {'':<{width}}  hint: {check.hint}")
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(1)


def _checks(context: Context) -> Iterator[Check]:
    yield _plugins(context)
    yield _settings(context)
    yield _attempt("compression", lambda: f"{context.compressor().name} is used for new objects")
    yield _attempt("encryption", lambda: _crypter(context))
    yield _attempt("storage", lambda: _storage(context))
    for ask in hooks.implementations(context.catalog, "walg_health_checks"):
        yield from _own_checks(ask, context)


def _own_checks(ask: Callable[..., Iterable[Check] | None], context: Context) -> list[Check]:
    try:
        return list(ask(context=context) or ())
    except WalgError as error:
        return [Check("a plugin's checks", "failed", str(error), error.hint or "")]
    except Exception as error:
        return [Check("a plugin's checks", "failed", f"{type(error).__name__}: {error}")]


def _attempt(name: str, action: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", action())
    except WalgError as error:
        return Check(name, "failed", str(error), error.hint or "")
    except (OSError, ImportError) as error:
        return Check(name, "failed", f"{type(error).__name__}: {error}")


def _plugins(context: Context) -> Check:
    unused = [plugin for plugin in context.catalog.plugins if plugin.problem]
    broken = [f"{plugin.name} ({plugin.problem})" for plugin in unused if plugin.problem != BLOCKED]
    if broken:
        return Check("plugins", "warning", f"not usable: {', '.join(broken)}", "see: wal-g plugins")
    blocked = f", {len(unused)} blocked" if unused else ""
    return Check("plugins", "ok", f"{len(context.catalog.plugins) - len(unused)} usable{blocked}")


def _settings(context: Context) -> Check:
    from walg_core.settings.check import mistakes

    found = mistakes(context.config, context.catalog, context.engine)
    if found:
        return Check("settings", "failed", "; ".join(str(each) for each in found), "see: wal-g config check")
    return Check("settings", "ok", f"read from {context.config.file_name or 'the environment'}")


def _crypter(context: Context) -> str:
    crypter = context.crypter()
    return "objects are stored encrypted" if crypter else "objects are stored unencrypted: no cipher is configured"


def _storage(context: Context) -> str:
    storage = context.primary_storage()
    names = sorted(storage.list_dirs(""))
    return f"{storage.name}: readable, {len(names)} folders"
