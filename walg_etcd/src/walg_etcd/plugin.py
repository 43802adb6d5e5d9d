"""What the etcd engine declares. Read whenever plugins are listed, so it imports nothing heavy."""

from walg_core.declarations import EngineType
from walg_core.hookspecs import hookimpl

from walg_etcd.settings import SETTINGS


@hookimpl
def walg_register_engines() -> list[EngineType]:
    return [EngineType("etcd", title="ETCD", app="walg_etcd.cli:app", settings=SETTINGS)]
