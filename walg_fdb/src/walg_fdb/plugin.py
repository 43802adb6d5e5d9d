"""What the FoundationDB engine declares. Read whenever plugins are listed, so it imports nothing heavy."""

from walg_core.declarations import EngineType
from walg_core.hookspecs import hookimpl

from walg_fdb.settings import SETTINGS


@hookimpl
def walg_register_engines() -> list[EngineType]:
    return [EngineType("fdb", title="FoundationDB", app="walg_fdb.cli:app", settings=SETTINGS)]
