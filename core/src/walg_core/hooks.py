"""Calling the hooks that plugins may implement while a command runs. Costs nothing where no plugin implements one."""

from walg_core.plugins import Catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import pluggy

    from walg_core.context import Context
    from walg_core.health import Finding


class _State:
    catalog: "Catalog | None" = None
    manager: "pluggy.PluginManager | None" = None


def call(catalog: Catalog, hook: str, **arguments: "Any") -> "list[Any]":
    """The results of every implementation, None left out; an exception of one goes to the caller."""
    if not catalog.hooks.get(hook):
        return []
    results: list[Any] = getattr(_manager(catalog).hook, hook)(**arguments)
    return results


def implementations(catalog: Catalog, hook: str) -> "list[Callable[..., Any]]":
    """The implementations one by one, for hooks that each get what the one before gave. Call them with keywords."""
    if not catalog.hooks.get(hook):
        return []
    found = getattr(_manager(catalog).hook, hook).get_hookimpls()
    return [_with_its_arguments(each.function, each.argnames) for each in found]


def _with_its_arguments(function: "Callable[..., Any]", names: "Sequence[str]") -> "Callable[..., Any]":
    def run(**arguments: "Any") -> "Any":
        return function(**{name: arguments[name] for name in names})

    return run


def notify(catalog: Catalog, hook: str, **arguments: "Any") -> None:
    """Like `call` for hooks that must not disturb: an exception is logged and goes no further."""
    try:
        call(catalog, hook, **arguments)
    except Exception as error:
        from walg_core.observe import log

        log.warning(f"a plugin failed in {hook}: {type(error).__name__}: {error}")


def findings(context: "Context") -> "list[Finding]":
    """What plugins find wrong with the backups (`walg_verify_backup`); one that fails is a finding itself."""
    from walg_core.errors import WalgError
    from walg_core.health import Finding

    found: list[Finding] = []
    for ask in implementations(context.catalog, "walg_verify_backup"):
        try:
            found += ask(context=context) or ()
        except WalgError as error:
            found.append(Finding("error", "a plugin's verification", str(error)))
        except Exception as error:
            found.append(Finding("error", "a plugin's verification", f"{type(error).__name__}: {error}"))
    return found


def _manager(catalog: Catalog) -> "pluggy.PluginManager":
    if _State.manager is None or _State.catalog is not catalog:
        import pluggy

        from walg_core import hookspecs
        from walg_core.declarations import load

        manager = pluggy.PluginManager("walg")
        manager.add_hookspecs(hookspecs)
        for target in dict.fromkeys(target for targets in catalog.hooks.values() for target in targets):
            plugin = load(target) if ":" in target else __import__(target, fromlist=["_"])
            if not manager.is_registered(plugin):
                manager.register(plugin, target)
        _State.catalog, _State.manager = catalog, manager
    return _State.manager
