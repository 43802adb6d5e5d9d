"""What the MySQL engine declares."""

from walg_core.declarations import EngineType
from walg_core.hookspecs import hookimpl

from walg_mysql.settings import SETTINGS


@hookimpl
def walg_register_engines() -> list[EngineType]:
    return [EngineType("mysql", title="MySQL", app="walg_mysql.cli:app", settings=SETTINGS)]
