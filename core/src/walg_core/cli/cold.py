"""The cold path: commands that a database starts once per file run here, without typer and all it brings.

Only the plainest form is handled: the command, its positional arguments, `--option value`, global flags. Anything else
(help, completion, an unknown option, a web server or profile asked for) falls through to the application, which runs
the very same function.
"""

from walg_core.declarations import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from walg_core.cli.session import Session

# Settings that want the application's machinery around the command.
_WARM = ("HTTP_LISTEN", "HTTP_EXPOSE_PPROF", "HTTP_EXPOSE_EXPVAR", "PROFILE_SAMPLING_RATIO")


def match(session: "Session") -> "tuple[str, Callable[[], int]] | None":
    """The command's name and the function that runs it, when the command line is a cold one; otherwise None."""
    if session.problem or not session.engine:
        return None
    words = session.arguments
    if session.shape == "several":
        if words[:1] != [session.engine]:
            return None
        words = words[1:]
    engine = session.catalog.engines[session.engine]
    name = words[0] if words else ""
    if name not in engine.cold or any(session.config.is_set(each) for each in _WARM):
        return None
    form = engine.cold_forms.get(name)
    parsed = _parse(words[1:], form[1] if form else (), form[2] if form and len(form) > 2 else ())
    if parsed is None or (form and len(parsed[0]) != form[0]):
        return None
    positional, options = parsed

    def run() -> int:
        context = session.start()
        session.require()
        status: int = load(engine.cold[name])(context, positional, options)
        return status

    return name, run


def _parse(
    words: "Sequence[str]", valued: "Sequence[str]", switches: "Sequence[str]"
) -> "tuple[list[str], dict[str, str | bool]] | None":
    """Positional arguments and options; None for anything that is not exactly of the declared form."""
    positional: list[str] = []
    options: dict[str, str | bool] = {}
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-") or word == "-":
            positional.append(word)
            continue
        name, sign, value = word[2:].partition("=")
        if not word.startswith("--") or not name:
            return None
        if name in switches and not sign:
            options[name] = True
        elif name in valued and (sign or at < len(words)):
            options[name] = value if sign else words[at]
            at += not sign
        else:
            return None
    return positional, options
