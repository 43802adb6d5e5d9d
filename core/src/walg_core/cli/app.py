"""The full application: the engine's commands and core's in one typer tree, every leaf run inside the session."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from walg_core.cli.failure import usage
from walg_core.declarations import load
from walg_core.errors import ConfigError
from walg_core.observe import bridge, log, progress

if TYPE_CHECKING:
    from walg_core.cli.session import Session

# They say themselves what they miss.
_WITHOUT_STORAGE = frozenset(("crypto", "doctor", "st"))
_WEB = ("HTTP_LISTEN", "HTTP_EXPOSE_PPROF", "HTTP_EXPOSE_EXPVAR")
_VERSION = (["--version"], ["-v"])
# Groups that the original does not have, or whose commands depend on the engine: an unknown word is an error there.
_STRICT = (("config",), ("crypto",), ("st", "transfer"))
_USAGE_ERROR: type[Any] = typer.BadParameter.__bases__[0]


def run_application(session: Session) -> int:
    """Dispatch to the command and return its status; failures are raised, only usage errors are shown here."""
    prog = _program_name(session)
    if session.arguments in _VERSION:
        from walg_core.cli.commands.version import version_line

        typer.echo(version_line(session))
        return 0
    command = typer.main.get_command(build(session))
    _wrap(command, session, ())
    if _completing():
        load("typer._completion_classes:completion_init")()
    elif not session.arguments:
        session.arguments = ["--help"]
    try:
        result = command.main(
            args=session.arguments, prog_name=prog, complete_var=complete_variable(prog), standalone_mode=False
        )
    except _USAGE_ERROR as error:
        if session.problem and error.message.startswith("No such command"):
            raise session.problem from None
        return session.failed(_show_usage(session, error)) if error.exit_code else 0
    except typer.Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def complete_variable(prog: str) -> str:
    """The variable through which a shell's completion script asks `prog` for candidates."""
    return f"_{prog.replace('-', '_').upper()}_COMPLETE"


def _completing() -> bool:
    return any(name.endswith("_COMPLETE") and name.startswith("_WAL_G") for name in os.environ)


def _program_name(session: Session) -> str:
    """`wal-g`, or the own script's name."""
    return f"wal-g-{session.engine}" if session.shape == "own" else "wal-g"


def build(session: Session) -> typer.Typer:
    """The tree for this session: the engine at the top level, or every engine under its name."""
    from walg_core.cli.commands import register

    app = typer.Typer(
        name="wal-g",
        help="Archive and restore databases to and from object storage.",
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Every setting is also a flag (`wal-g flags`), a variable and a key of the configuration file.",
    )
    engines = session.catalog.engines
    if session.shape in ("own", "single"):
        _join(app, _engine_app(session, session.engine))
    else:
        app.callback()(_nothing)
        for name, engine in sorted(engines.items()):
            wanted = name == session.engine or _completing()
            part = (_engine_app(session, name) if wanted else None) or _stub()
            app.add_typer(part, name=name, help=f"Archive and restore {engine.title}.", no_args_is_help=True)
    session.frame = register(app)
    for target in session.catalog.hooks.get("walg_register_commands", ()):
        _extend(app, target)
    return app


def _join(app: typer.Typer, part: typer.Typer | None) -> None:
    if part is None:
        app.callback()(_nothing)
        return
    app.registered_callback = part.registered_callback
    if app.registered_callback is None:
        app.callback()(_nothing)
    app.registered_commands.extend(part.registered_commands)
    app.registered_groups.extend(part.registered_groups)


def _nothing() -> None:
    return


def _stub() -> typer.Typer:
    """Stands for an engine that this command line does not use, so that its code is not imported."""
    stub = typer.Typer(rich_markup_mode=None)
    stub.callback()(_nothing)
    return stub


def _engine_app(session: Session, name: str) -> typer.Typer | None:
    path = session.catalog.engines[name].app
    try:
        app: typer.Typer = load(path)
    except ImportError as error:
        if session.debug:
            raise
        session.problem = session.problem or ConfigError(
            f"the engine '{name}' cannot be loaded: {error}",
            hint=f"reinstall its distribution ({path.partition('.')[0]})",
        )
        return None
    return app


def _extend(app: typer.Typer, target: str) -> None:
    """Commands of a third party; one that fails to register is left out, with a warning."""
    try:
        module, _, attribute = target.partition(":")
        plugin = load(f"{module}:{attribute}") if attribute else __import__(module, fromlist=["_"])
        plugin.walg_register_commands(app=app)
    except Exception as error:
        log.warning(f"the commands of the plugin {target} are missing: {type(error).__name__}: {error}")


def _wrap(command: Any, session: Session, path: tuple[str, ...]) -> None:
    """Run every leaf (and every group with a callback of its own) inside the session."""
    commands = getattr(command, "commands", None)
    if commands is None:
        command.parse_args = partial(_parse_args, command, command.parse_args)
        command.invoke = partial(_invoke, session, path, command.invoke)
        return
    callback = getattr(command.callback, "__wrapped__", command.callback)
    if path and callback is not None and callback is not _nothing and path[0] not in session.frame:
        command.invoke = partial(_enter, session, command.invoke)
    for name, child in commands.items():
        _wrap(child, session, (*path, name))


def _parse_args(command: Any, original: Any, ctx: Any, args: list[str]) -> Any:
    """Go's form of a switch, `--confirm=true` or `--confirm=false`, is understood as well."""
    switches = {
        name: each.secondary_opts[:1]
        for each in command.params
        if getattr(each, "is_flag", False)
        for name in each.opts
    }
    words = []
    rest = iter(args)
    for word in rest:
        name, sign, value = word.partition("=")
        if word == "--":
            words += [word, *rest]
        elif sign and name in switches and value.lower() in ("true", "t", "1", "false", "f", "0"):
            words += [name] if value.lower() in ("true", "t", "1") else switches[name]
        else:
            words.append(word)
    return original(ctx, words)


def _enter(session: Session, original: Any, ctx: Any) -> Any:
    if not isinstance(ctx.obj, session.context_type):
        ctx.obj = session.start()
    return original(ctx)


def _invoke(session: Session, path: tuple[str, ...], original: Any, ctx: Any) -> Any:
    session.command = "-".join(path)
    if path[0] in session.frame:
        ctx.obj = session
        return original(ctx)
    ctx.obj = session.start()
    bridge.install()
    if path[0] not in _WITHOUT_STORAGE and path[-1] not in ("copy", "backup-copy"):
        session.require()
    config = session.config
    with ExitStack() as around:
        if any(config.is_set(name) for name in _WEB):
            around.enter_context(load("walg_core.observe.web:serving")(config))
        if progress.visible(sys.stderr):
            transferred = progress.track(None, "transferred")
            transferred.transfers = True
            around.enter_context(transferred)
        if config.is_set("PROFILE_SAMPLING_RATIO"):
            around.enter_context(load("walg_core.observe.profiling:profiled")(config))
        return original(ctx)


def _engines_with(session: Session, word: str) -> list[str]:
    """Engines that have this command, where each stands under its name."""
    if session.shape != "several" or session.engine:
        return []
    found = []
    for name in session.catalog.engines:
        part = _engine_app(session, name)
        if part and word in getattr(typer.main.get_command(part), "commands", {}):
            found.append(name)
    return sorted(found)


def _show_usage(session: Session, error: Any) -> int:
    ctx = error.ctx
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(ctx.get_help())
        return 0
    text = error.format_message()
    name = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and name:
        near = f", did you mean {sorted(error.possibilities)[0]}?" if error.possibilities else ""
        text = f"unknown flag: {name}{near}"
    elif text.startswith("No such command '"):
        text = _unknown_command(session, ctx, text)
        if _shows_help(session, ctx):
            typer.echo(f"{text}\n\n{ctx.get_help()}")
            return 0
    elif text == "Missing command." and _shows_help(session, ctx):
        typer.echo(ctx.get_help())
        return 0
    help_text = f"{ctx.get_usage()}\n\nRun '{ctx.command_path} --help' for usage." if ctx else ""
    sys.stdout.flush()
    return usage(text, help_text)


def _unknown_command(session: Session, ctx: Any, text: str) -> str:
    word, _, rest = text.removeprefix("No such command '").partition("'")
    near = "" if len(rest) < 2 else rest.rstrip(".")
    engines = _engines_with(session, word)
    if engines:
        near = ", did you mean " + " or ".join(f"'{ctx.command_path} {name} {word}'" for name in engines) + "?"
    return f'unknown command "{word}" for "{ctx.command_path}"{near}'


def _shows_help(session: Session, ctx: Any) -> bool:
    """Whether the group does what the original's groups do without a command, or with a word they do not know.

    It is no failure there: help on stdout, status 0 - unless a flag follows that the group does not know either.
    """
    path: list[str] = []
    known = set(ctx.help_option_names)
    while ctx is not None:
        known.update(option for each in ctx.command.params for option in (*each.opts, *each.secondary_opts))
        path.insert(0, ctx.info_name)
        ctx = ctx.parent
    del path[0]
    if session.shape == "several" and path[:1] == [session.engine]:
        del path[0]
    if not path or tuple(path) in _STRICT:
        return False
    for word in session.arguments:
        if word == "--":
            break
        if len(word) > 1 and word[0] == "-" and not {word.partition("=")[0], word[:2]} & known:
            return False
    return True
