"""The full scan of entry points. Slow (it imports pluggy and importlib.metadata), so its result is cached.

A plugin that cannot be used never breaks a command: the reason is kept in `Plugin.problem`, and what it would have
declared is simply not there.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from walg_core import builtin, hookspecs
from walg_core.declarations import Declaration
from walg_core.plugins import BLOCKED, GROUPS, Catalog, Plugin
from walg_core.settings.declare import Setting

_REGISTER = {
    "walg_register_storages": "storages",
    "walg_register_compressors": "compressors",
    "walg_register_crypters": "crypters",
    "walg_register_engines": "engines",
}


def discover(disabled: frozenset[str] = frozenset()) -> Catalog:
    """Everything that is installed. `disabled`: names of entry points or distributions that are not even imported."""
    catalog = Catalog()
    manager = pluggy.PluginManager("walg")
    manager.add_hookspecs(hookspecs)
    own = Plugin("walg.plugins", "builtin", "walg_core.builtin", "walg-core", _version_of("walg-core"))
    catalog.plugins.append(own)
    _register(manager, catalog, own, builtin)
    for group in GROUPS:
        for entry in sorted(entry_points(group=group), key=lambda each: (each.name, each.value)):
            plugin = _described(group, entry)
            catalog.plugins.append(plugin)
            if plugin.name in disabled or plugin.distribution in disabled:
                plugin.problem = BLOCKED
                continue
            try:
                _register(manager, catalog, plugin, entry.load())
            except Exception as error:
                # A stranger's module may raise anything at all.
                plugin.problem = f"{type(error).__name__}: {error}"
    catalog.sources = _sources(catalog)
    return catalog


def _described(group: str, entry: EntryPoint) -> Plugin:
    distribution = entry.dist
    name = distribution.name if distribution else "?"
    version = distribution.version if distribution else "?"
    return Plugin(group, entry.name, entry.value, name, version)


def _version_of(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "?"


def _register(manager: pluggy.PluginManager, catalog: Catalog, plugin: Plugin, implementation: object) -> None:
    """Take over what one plugin declares; everything or nothing of it."""
    if manager.is_registered(implementation):
        return
    name = manager.register(implementation, f"{plugin.group}:{plugin.name}")
    if name is None:
        raise RuntimeError("blocked by the plugin manager")
    callers = manager.get_hookcallers(implementation) or []
    unknown = [caller.name for caller in callers if not caller.has_spec()]
    if unknown:
        raise RuntimeError(f"unknown hook {', '.join(unknown)}")
    found: dict[str, list[Any]] = {}
    running: list[str] = []
    for caller in callers:
        if caller.name == "walg_register_settings" or caller.name in _REGISTER:
            found[caller.name] = list(getattr(implementation, caller.name)() or ())
        else:
            running.append(caller.name)
    _check(catalog, found)
    for hook in running:
        catalog.hooks.setdefault(hook, []).append(plugin.target)
    for hook, made in found.items():
        if hook == "walg_register_settings":
            catalog.settings.extend(made)
        else:
            getattr(catalog, _REGISTER[hook]).update({each.name: each for each in made})


def _check(catalog: Catalog, found: dict[str, list[Any]]) -> None:
    for hook, made in found.items():
        wanted: type[Any] = Setting if hook == "walg_register_settings" else Declaration
        for each in made:
            if not isinstance(each, wanted):
                raise TypeError(f"{hook} gave {each!r}, which is no {wanted.__name__}")
            if hook in _REGISTER and each.name in getattr(catalog, _REGISTER[hook]):
                raise RuntimeError(f"{_REGISTER[hook][:-1]} '{each.name}' is declared twice")


def _sources(catalog: Catalog) -> tuple[str, ...]:
    """Files whose change makes the declarations stale: the modules that the plugins brought in, and core's own."""
    packages = {plugin.target.partition(":")[0].partition(".")[0] for plugin in catalog.plugins}
    files = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages:
            path = getattr(module, "__file__", None)
            if path:
                files.add(path)
    return tuple(sorted(files))


def describe_hooks() -> str:
    """A Markdown page of every hook with its signature and documentation, for the manual."""
    import inspect

    parts = ["# Hooks\n\nA plugin is a module with functions marked `@hookimpl` (`walg_core.hookspecs.hookimpl`).\n"]
    for name, function in vars(hookspecs).items():
        if name.startswith("walg_") and callable(function):
            parts.append(f"## `{name}{inspect.signature(function)}`\n\n{inspect.getdoc(function)}\n".replace("'", ""))
    return "\n".join(parts)
